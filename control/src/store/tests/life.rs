//! Operators, enclaves, agents and their secrets, from beginning to end.

use dvx_proto::agent::AgentState;
use dvx_proto::operator::{IntegrationStatus, Role, Scope};
use sqlx::Row;

use super::ground::{Ground, create, credential, events, number, plain};
use crate::crypto::HashedToken;
use crate::domain::{AgentFilter, EnclaveId, Outcome, PageRequest};
use crate::store::{Conflict, Object, StoreError};

on_both_engines!(
    tokens_are_known_by_their_hash_until_their_operator_is_deleted,
    the_last_admin_stays,
    a_deleted_enclave_takes_its_agents_and_its_key_with_it,
    a_deleted_agent_leaves_nothing_but_its_events,
    names_are_taken_once,
    agents_that_a_broker_could_not_tell_apart_are_refused,
    states_change_as_they_may,
    agents_are_listed_in_pages_by_name,
    secrets_have_versions_and_credentials_are_integrations,
    organisations_do_not_see_each_other,
);

async fn tokens_are_known_by_their_hash_until_their_operator_is_deleted(ground: Ground) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    let name = "olga".parse().unwrap();
    let Outcome::Done(created) = store.create_operator(&cause, &name, Role::Auditor, None).await.unwrap()
    else {
        panic!("nothing was asked before")
    };
    let hash = HashedToken::of(created.value.token.expose_secret());
    let actor = store.operator_by_token(&hash).await.unwrap().unwrap();
    assert_eq!(
        (actor.name.as_str(), actor.role, actor.org),
        ("olga", Some(Role::Auditor), cause.actor.org.clone())
    );
    assert!(store.operator_by_token(&HashedToken::of(b"dvxo_other")).await.unwrap().is_none());
    assert!(store.enclave_by_key(&hash).await.unwrap().is_none());
    store.delete_operator(&cause, &name).await.unwrap();
    assert!(store.operator_by_token(&hash).await.unwrap().is_none());
    let again = store.delete_operator(&cause, &name).await;
    assert!(matches!(again, Err(StoreError::NotFound(Object::Operator))));
}

async fn the_last_admin_stays(ground: Ground) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    let (first, second) = ("admin".parse().unwrap(), "second".parse().unwrap());
    store.create_operator(&cause, &"op".parse().unwrap(), Role::Operator, None).await.unwrap();
    let refused = store.delete_operator(&cause, &first).await;
    assert!(matches!(refused, Err(StoreError::Conflict(Conflict::LastAdmin))));
    assert_eq!(store.operators(&cause.actor.org, &PageRequest::first(9)).await.unwrap().items.len(), 2);
    // Of two admins who delete each other at once, one stays.
    store.create_operator(&cause, &second, Role::Admin, None).await.unwrap();
    let (a, b) = tokio::join!(store.delete_operator(&cause, &first), store.delete_operator(&cause, &second));
    assert!(a.is_ok() ^ b.is_ok());
}

async fn a_deleted_enclave_takes_its_agents_and_its_key_with_it(ground: Ground) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    let key = ground.enclave(&store, &cause, "lab").await.api_key;
    let hash = HashedToken::of(key.expose_secret());
    let identity = store.enclave_by_key(&hash).await.unwrap().unwrap();
    assert_eq!((identity.name.as_str(), &identity.org), ("lab", &cause.actor.org));
    let agent = ground.agent(&store, &cause, "a", "lab").await;
    store.set_secret(&cause, Some(&agent), credential("glpat-a")).await.unwrap();
    let changed = store.delete_enclave(&cause, &identity.name).await.unwrap();
    assert_eq!(changed.revision, store.revision(&cause.actor.org).await.unwrap());
    assert!(store.enclave_by_key(&hash).await.unwrap().is_none());
    for table in ["agents", "secrets", "secret_heads", "integrations", "enclaves"] {
        assert_eq!(number(&store, &format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(events(&store, &cause, "agent.delete").await.len(), 1);
    assert_eq!(events(&store, &cause, "enclave.delete").await.len(), 1);
}

async fn a_deleted_agent_leaves_nothing_but_its_events(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let name = "a".parse().unwrap();
    let id = store.agent_id(&cause.actor.org, &name).await.unwrap();
    store.delete_agent(&cause, &name).await.unwrap();
    for (table, column) in
        [("secrets", "agent_id"), ("secret_heads", "agent_id"), ("integrations", "agent_id")]
    {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {column} = '{id}'");
        assert_eq!(number(&store, &sql).await, 0, "{table}");
    }
    assert!(!events(&store, &cause, "secret.set").await.is_empty());
    ground.agent(&store, &cause, "a", "lab").await;
    let again = store.agent_id(&cause.actor.org, &name).await.unwrap();
    assert_ne!(again, id, "ids are never used again");
    let secrets = store.secrets(&cause.actor.org, Some(&name), &PageRequest::first(9)).await.unwrap();
    assert!(secrets.items.is_empty());
}

async fn names_are_taken_once(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let operator = store.create_operator(&cause, &"admin".parse().unwrap(), Role::Admin, None).await;
    assert!(matches!(operator, Err(StoreError::Conflict(Conflict::Taken(Object::Operator)))));
    let enclave = store.create_enclave(&cause, &"lab".parse().unwrap(), None).await;
    assert!(matches!(enclave, Err(StoreError::Conflict(Conflict::Taken(Object::Enclave)))));
    let agent = store.create_agent(&cause, &create("a", "lab"), None).await;
    assert!(matches!(agent, Err(StoreError::Conflict(Conflict::Taken(Object::Agent)))));
    let nowhere = store.create_agent(&cause, &create("z", "nowhere"), None).await;
    assert!(matches!(nowhere, Err(StoreError::NotFound(Object::Enclave))));
    let before = store.revision(&cause.actor.org).await.unwrap();
    assert_eq!(before.0, 4, "what was refused has no revision");
}

async fn agents_that_a_broker_could_not_tell_apart_are_refused(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    ground.enclave(&store, &cause, "other").await;
    let mut agent = create("c", "lab");
    agent.unix_user = "u-a".parse().unwrap();
    let refused = store.create_agent(&cause, &agent, None).await;
    assert!(matches!(refused, Err(StoreError::Conflict(Conflict::Overlap(other))) if other.as_str() == "a"));
    agent.selectors.unit = Some("c.slice".into());
    assert!(matches!(store.create_agent(&cause, &agent, None).await, Err(StoreError::Selector(_))));
    agent.enclave = "other".parse().unwrap();
    agent.selectors.unit = Some("c.service".into());
    store.create_agent(&cause, &agent, None).await.unwrap();
    agent.name = "d".parse().unwrap();
    agent.selectors.unit = Some("d.service".into());
    store.create_agent(&cause, &agent, None).await.unwrap();
    assert_eq!(store.agent(&cause.actor.org, &agent.name).await.unwrap().selectors, agent.selectors);
}

async fn states_change_as_they_may(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let name = "a".parse().unwrap();
    let isolated = store.isolate_agent(&cause, &name, "odd traffic").await.unwrap();
    assert_eq!(
        (isolated.value.state, isolated.value.reason.as_deref()),
        (AgentState::Isolated, Some("odd traffic"))
    );
    assert_eq!(isolated.value.revision, isolated.revision.0);
    let again = store.isolate_agent(&cause, &name, "still odd").await.unwrap();
    assert_eq!(again.value.reason.as_deref(), Some("still odd"));
    let restored = store.restore_agent(&cause, &name).await.unwrap().value;
    assert_eq!((restored.state, restored.reason), (AgentState::Active, None));
    store.revoke_agent(&cause, &name, "stolen").await.unwrap();
    for refused in [store.restore_agent(&cause, &name).await, store.isolate_agent(&cause, &name, "x").await] {
        assert!(matches!(refused, Err(StoreError::Conflict(Conflict::Revoked))));
    }
    let back = store.reprovision_agent(&cause, &name).await.unwrap().value;
    assert_eq!((back.state, back.credentials), (AgentState::Active, 1));
    let overview = store.overview(&cause.actor.org, "1", cause.time).await.unwrap();
    assert_eq!((overview.active, overview.isolated, overview.revoked), (2, 0, 0));
    let event = events(&store, &cause, "agent.isolate").await.remove(0);
    assert_eq!((event.reason.as_deref(), event.request_id.as_deref()), (Some("odd traffic"), Some("r-1")));
    assert_eq!((event.actor.as_str(), event.role), ("admin", Some(Role::Admin)));
    let nobody = store.isolate_agent(&cause, &"z".parse().unwrap(), "x").await;
    assert!(matches!(nobody, Err(StoreError::NotFound(Object::Agent))));
}

async fn agents_are_listed_in_pages_by_name(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    ground.enclave(&store, &cause, "other").await;
    for name in ["c-1", "c_1", "c1", "0"] {
        ground.agent(&store, &cause, name, "other").await;
    }
    store.isolate_agent(&cause, &"c1".parse().unwrap(), "x").await.unwrap();
    let org = &cause.actor.org;
    let mut names = Vec::new();
    let mut page = PageRequest::first(2);
    loop {
        let part = store.agents(org, &AgentFilter::default(), &page).await.unwrap();
        names.extend(part.items.iter().map(|agent| agent.name.to_string()));
        let Some(next) = part.next else { break };
        page.after = Some(next);
    }
    assert_eq!(names, ["0", "a", "b", "c-1", "c1", "c_1"], "by their bytes, on either engine");
    let filter = AgentFilter { enclave: Some("other".parse().unwrap()), state: Some(AgentState::Isolated) };
    let found = store.agents(org, &filter, &PageRequest::first(9)).await.unwrap().items;
    assert_eq!(found.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["c1"]);
    let filter = AgentFilter { enclave: Some("nowhere".parse().unwrap()), state: None };
    assert!(store.agents(org, &filter, &PageRequest::first(9)).await.unwrap().items.is_empty());
    let filter = AgentFilter { enclave: None, state: Some(AgentState::Active) };
    assert_eq!(store.agents(org, &filter, &PageRequest::first(9)).await.unwrap().items.len(), 5);
}

async fn secrets_have_versions_and_credentials_are_integrations(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    let agent = "a".parse().unwrap();
    let set = store.set_secret(&cause, Some(&agent), credential("glpat-2")).await.unwrap().value;
    assert_eq!((set.created, set.info.version, set.info.scope), (false, 2, Scope::Agent));
    let page = PageRequest::first(9);
    let listed = store.secrets(org, Some(&agent), &page).await.unwrap().items.remove(0);
    assert_eq!(serde_json::to_string(&listed).unwrap(), serde_json::to_string(&set.info).unwrap());
    let integration = store.integrations(org, &agent).await.unwrap().remove(0);
    assert_eq!(
        (integration.display_name.as_str(), integration.status),
        ("my-user", IntegrationStatus::Active)
    );
    // The broker tells of it by its id; only its own enclave's broker may.
    let row = sqlx::query("SELECT enclave_id FROM agents WHERE name = 'a'");
    let row = row.fetch_one(&store.0.reader).await.unwrap();
    let enclave = EnclaveId::from(row.get::<String, _>(0));
    let id = crate::domain::SecretId::from(integration.id.clone());
    let (owner, name) = store.credential_name(&enclave, org, &id).await.unwrap().unwrap();
    assert_eq!((owner.unwrap().as_str(), name.as_str()), ("a", "gitlab:token"));
    let stranger = crate::domain::EnclaveId::generate(cause.time);
    assert!(store.credential_name(&stranger, org, &id).await.unwrap().is_none());
    // The same name, but for its agent to read: no credential any more.
    let mut plain = plain("gitlab:token", "glpat-3");
    store.set_secret(&cause, Some(&agent), plain).await.unwrap();
    assert!(store.integrations(org, &agent).await.unwrap().is_empty());
    assert_eq!(store.agent(org, &agent).await.unwrap().credentials, 0);
    plain = super::ground::plain("X", "x");
    let set = store.set_secret(&cause, None, plain).await.unwrap().value;
    assert_eq!((set.created, set.info.scope), (true, Scope::Org));
    assert_eq!(store.secrets(org, None, &page).await.unwrap().items.len(), 1);
    store.delete_secret(&cause, None, &"X".parse().unwrap()).await.unwrap();
    let again = store.delete_secret(&cause, None, &"X".parse().unwrap()).await;
    assert!(matches!(again, Err(StoreError::NotFound(Object::Secret))));
    let set = store.set_secret(&cause, None, super::ground::plain("X", "y")).await.unwrap().value;
    assert_eq!((set.created, set.info.version), (true, 3), "versions do not come again after deletion");
}

async fn organisations_do_not_see_each_other(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let admin = "admin".parse().unwrap();
    let token = crate::store::Store::init(&ground.url, ground.kek.clone(), "second", &admin, cause.time)
        .await
        .unwrap();
    let actor = store.operator_by_token(&token.hashed()).await.unwrap().unwrap();
    let other = crate::domain::Cause { actor, ..cause.clone() };
    let agent = "a".parse().unwrap();
    assert!(matches!(store.agent(&other.actor.org, &agent).await, Err(StoreError::NotFound(Object::Agent))));
    assert!(matches!(store.delete_agent(&other, &agent).await, Err(StoreError::NotFound(Object::Agent))));
    assert!(matches!(
        store.create_agent(&other, &create("x", "lab"), None).await,
        Err(StoreError::NotFound(Object::Enclave))
    ));
    let id = store.agent_id(&cause.actor.org, &agent).await.unwrap();
    let name = "gitlab:token".parse().unwrap();
    assert!(store.stored_secret(&other.actor.org, Some(&id), &name).await.unwrap().is_none());
    assert_eq!(store.revision(&other.actor.org).await.unwrap().0, 0);
    assert!(events(&store, &other, "agent.create").await.is_empty());
}

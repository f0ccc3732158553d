//! Ten thousand agents with three secrets each. Times are printed, plans are checked.

use dvx_proto::agent::AgentState;
use sqlx::Row;

use super::ground::{Ground, execute};
use crate::clock;
use crate::crypto::HashedToken;
use crate::domain::{AgentFilter, Cause, EnclaveIdentity, PageRequest};
use crate::store::row::assembled;
use crate::store::{Store, agents, secrets, watch};

on_both_engines!(pages_do_not_read_whole_tables);

const AGENTS: usize = 10_000;

async fn pages_do_not_read_whole_tables(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let enclave = fill(&ground, &store, &cause).await;
    let begin = clock::monotonic();
    drop(ground.open().await);
    println!("start: {:?}", begin.elapsed());
    let org = &cause.actor.org;
    for filter in [
        AgentFilter::default(),
        AgentFilter { enclave: Some(enclave.name.clone()), state: None },
        AgentFilter { enclave: None, state: Some(AgentState::Active) },
    ] {
        let begin = clock::monotonic();
        let page = store.agents(org, &filter, &PageRequest::first(100)).await.unwrap();
        println!("first page {filter:?}: {:?}", begin.elapsed());
        assert_eq!(page.items.len(), 100);
        let begin = clock::monotonic();
        let last = PageRequest { after: Some("n9".into()), limit: 100 };
        assert!(!store.agents(org, &filter, &last).await.unwrap().items.is_empty());
        println!("late page: {:?}", begin.elapsed());
    }
    for sql in [
        format!("{} AND a.name > 'n5' ORDER BY a.name LIMIT 101", agents::LISTING),
        watch::AGENTS.replace("$2", "'n5'").replace("$3", "64"),
        secrets::page_sql().replace("$2", "'id-5'"),
    ] {
        check_plan(&ground, &store, &sql).await;
    }
    // What a stream reads of an enclave that has nothing yet.
    let begin = clock::monotonic();
    let (mut after, mut agents, mut secrets) = (None, 0, 0);
    loop {
        let page = store.agents_of_enclave(&enclave.id, after.as_ref(), 64).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.document.agent.clone());
        agents += page.len();
        for agent in &page {
            secrets += store.agent_secrets(org, &agent.id, &PageRequest::first(8)).await.unwrap().len();
        }
    }
    println!("{agents} agents with {secrets} secrets: {:?}", begin.elapsed());
    assert_eq!((agents, secrets), (500, 1500));
}

/// Rows by the database itself: what they are encrypted with does not matter here.
async fn fill(ground: &Ground, store: &Store, cause: &Cause) -> EnclaveIdentity {
    let key = ground.enclave(store, cause, "big").await.api_key;
    let enclave = store.enclave_by_key(&HashedToken::of(key.expose_secret())).await.unwrap().unwrap();
    let row =
        sqlx::query("SELECT id FROM enclaves WHERE name = 'lab'").fetch_one(&store.0.reader).await.unwrap();
    let lab: String = row.get(0);
    let series =
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {AGENTS})");
    let org = cause.actor.org.as_str();
    execute(
        store,
        &format!(
            "{series} INSERT INTO agents (id, org_id, enclave_id, name, unix_user, state, created_at, revision) \
             SELECT 'id-' || i, '{org}', CASE WHEN i <= 500 THEN '{}' ELSE '{lab}' END, 'n' || i, 'u' || i, 'active', \
             1, 1 FROM n",
            enclave.id
        ),
    )
    .await;
    for name in ["gitlab:token", "X", "Y"] {
        let credential = i32::from(name == "gitlab:token");
        execute(
            store,
            &format!(
                "{series} INSERT INTO secrets (org_id, agent_id, name, id, agent_accessible, version, updated_at, \
                 credential, kek_id, wrapped_key, value, expires_at) SELECT '{org}', 'id-' || i, '{name}', \
                 '{name}-' || i, 0, 1, 1, {credential}, 'k', s.wrapped_key, s.value, i FROM n \
                 JOIN secrets s ON s.agent_id = '{}' AND s.name = 'gitlab:token'",
                store.agent_id(&cause.actor.org, &"a".parse().unwrap()).await.unwrap()
            ),
        )
        .await;
        execute(
            store,
            &format!(
                "{series} INSERT INTO secret_heads (org_id, agent_id, name, secret_id, version, deleted, mac) \
                 SELECT '{org}', 'id-' || i, '{name}', '{name}-' || i, 1, 0, h.mac FROM n JOIN secret_heads h \
                 ON h.agent_id = '{}' AND h.name = 'gitlab:token'",
                store.agent_id(&cause.actor.org, &"a".parse().unwrap()).await.unwrap()
            ),
        )
        .await;
    }
    execute(store, "ANALYZE").await;
    enclave
}

/// A plan may not go through all agents or all secrets.
async fn check_plan(ground: &Ground, store: &Store, sql: &str) {
    let sqlite = ground.url.starts_with("sqlite");
    let sql = sql.replace("$1", "'x'").replace("$3", "'Y'").replace("$4", "32");
    let explain = if sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    let rows = sqlx::query(assembled(format!("{explain} {sql}"))).fetch_all(&store.0.reader).await.unwrap();
    let column = if sqlite { 3 } else { 0 };
    for row in rows {
        let step: String = row.get(column);
        println!("{step}");
        let whole = step.contains("Seq Scan on secret")
            || step.contains("Seq Scan on agents")
            || ["SCAN a", "SCAN s", "SCAN h"].contains(&step.as_str());
        assert!(!whole, "{sql}");
    }
}

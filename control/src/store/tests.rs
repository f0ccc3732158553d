//! The same tests on both engines.

use crate::domain::*;

macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::ground::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(ground) = super::ground::postgres(stringify!($name)) {
                    super::$name(ground).await;
                }
            })+
        }
    };
}

mod ground;

use ground::Ground;

both!(an_agent_and_its_secret_go_in_and_come_out);

async fn an_agent_and_its_secret_go_in_and_come_out(ground: Ground) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    ground.enclave(&store, &cause, "lab").await;
    ground.agent(&store, &cause, "me", "lab").await;
    let name: dvx_proto::AgentName = "me".parse().unwrap();
    let set = store.set_secret(&cause, Some(&name), ground::credential("glpat-1")).await.unwrap();
    assert!(set.value.created && set.value.info.version == 1);
    let org = &cause.actor.org;
    let agent = store.agent(org, &name).await.unwrap();
    assert_eq!((agent.credentials, agent.revision), (1, set.revision.0));
    let id = AgentId::from(agent.id.clone());
    let stored =
        store.stored_secret(org, Some(&id), &"gitlab:token".parse().unwrap()).await.unwrap().unwrap();
    let value = store.open_secret(&stored, cause.time).await.unwrap().unwrap();
    assert_eq!(value.expose_secret(), b"glpat-1");
    let integrations = store.integrations(org, &name).await.unwrap();
    assert_eq!(integrations.len(), 1);
    store.delete_secret(&cause, Some(&name), &"gitlab:token".parse().unwrap()).await.unwrap();
    assert!(store.integrations(org, &name).await.unwrap().is_empty());
    assert_eq!(store.enclaves(org, &PageRequest::first(10), cause.time).await.unwrap().items.len(), 1);
}

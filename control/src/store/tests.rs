//! The same tests on both engines.

/// Runs each function on SQLite, and on PostgreSQL where there is one.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::store::tests::ground::sqlite()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(ground) = crate::store::tests::ground::postgres(stringify!($name)) {
                    super::$name(ground).await;
                }
            })+
        }
    };
}

mod announcements;
mod audit;
mod deliveries;
mod expiry;
pub(crate) mod ground;
mod leases;
mod life;
mod once;
mod rekey;
mod revisions;
mod scale;
mod schema;
mod tampering;

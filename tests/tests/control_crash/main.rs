//! `kill -9` at random moments of a mixed workload: of the control plane, of its database server. Afterwards every
//! change that was acknowledged is there, none is there by half, and brokers agree with the database.

mod model;
mod random;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dvx_tests::{
    Agent, ControlPlane, Postgres, Proxy, World, eventually, fresh_uid, now, run, skip_without_root, within,
};
use random::Random;
use serde_json::Value;
use worker::Worker;

const AGENTS: [&str; 3] = ["a0", "a1", "a2"];

/// The same moments in every run, as far as the machine's own pace lets them be the same.
const SEED: u64 = 0x5eed_0003;

/// Works while `kill` is called so many times, and checks what is left.
fn kill_loop(mut control: ControlPlane, kills: u32, mut kill: impl FnMut(&mut ControlPlane, &mut Random)) {
    let proxy = Proxy::start(&control);
    let mut world = World::builder().control_at(&control, &proxy.url());
    for name in AGENTS {
        world = world.agent(Agent::new(name, fresh_uid()));
    }
    let mut world = world.build();
    world.start();
    let ending = Arc::new(AtomicBool::new(false));
    let replicas = control.addresses().len();
    let workers: Vec<_> = AGENTS
        .iter()
        .enumerate()
        .map(|(number, agent)| {
            let operators =
                (0..replicas).map(|replica| control.admin_at((number + replica) % replicas)).collect();
            let seed = SEED + 1 + u64::try_from(number).unwrap();
            let worker = Worker::new(agent, operators, Random::new(seed));
            let ending = Arc::clone(&ending);
            thread::spawn(move || worker.work_until(&ending))
        })
        .collect();
    let mut random = Random::new(SEED);
    let start = now();
    for _ in 0..kills {
        kill(&mut control, &mut random);
    }
    eprintln!("{kills} kills in {:?}", start.elapsed());
    control.start_all();
    ending.store(true, Ordering::SeqCst);
    let workers: Vec<Worker> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let acknowledged: usize = workers.iter().map(Worker::acknowledged).sum();
    assert!(acknowledged > kills.try_into().unwrap(), "only {acknowledged} changes were acknowledged");
    check(&control, &world, &workers);
}

fn check(control: &ControlPlane, world: &World, workers: &[Worker]) {
    let admin = control.admin();
    for agent in AGENTS {
        admin.set_state(agent, "reprovision");
    }
    let revision = admin.get("/overview")["revision"].as_u64().unwrap();
    let delivered = || admin.get(&format!("/deliveries/{revision}?wait_seconds=20"))["complete"] == true;
    eventually("the broker has everything", delivered);
    let mut revisions: Vec<u64> = workers.iter().flat_map(Worker::revisions).collect();
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count, "no two changes have one revision");
    assert!(revisions.last().is_some_and(|last| *last <= revision), "no acknowledged revision is gone");
    let events = admin.audit("");
    for worker in workers {
        worker.check(&admin, &world.caller(worker.agent()), &events);
    }
}

/// Waits a moment of the workload's time.
fn pause(random: &mut Random, milliseconds: u64) {
    let moment = Duration::from_millis(random.below(milliseconds));
    within(moment, || None::<()>);
}

/// What SQLite itself says of its file, after everything has ended.
fn integrity(control: &ControlPlane) -> String {
    let script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute('pragma integrity_check').fetchone()[0], db.execute('pragma foreign_key_check').fetchall())";
    let mut command = std::process::Command::new("python3");
    run(command.args(["-c", script]).arg(control.data().join("control.db"))).success()
}

#[test]
fn a_control_plane_on_sqlite_survives_two_hundred_kills() {
    if skip_without_root("a_control_plane_on_sqlite_survives_two_hundred_kills") {
        return;
    }
    let control = ControlPlane::start();
    kill_loop(control, 200, |control, random| {
        pause(random, 150);
        control.kill();
        if random.below(4) == 0 {
            // Also while it starts.
            control.launch_replica(0);
            pause(random, 60);
            control.kill();
        }
        control.start_all();
        if random.below(50) == 0 {
            assert_eq!(integrity(control), "ok []\n");
        }
    });
}

#[test]
fn replicas_and_their_database_server_survive_being_killed() {
    const NAME: &str = "replicas_and_their_database_server_survive_being_killed";
    if skip_without_root(NAME) {
        return;
    }
    let Some(postgres) = Postgres::start(NAME) else { return };
    let control = ControlPlane::builder().postgres(postgres).replicas(2).start();
    kill_loop(control, 200, |control, random| {
        pause(random, 150);
        match random.below(4) {
            0 => {
                control.postgres().kill();
                pause(random, 50);
                control.postgres().restart();
            }
            replica => {
                let replica = usize::try_from(replica % 2).unwrap();
                control.replica_number(replica).kill();
                pause(random, 50);
                control.launch_replica(replica);
            }
        }
    });
}

/// A member of an event as text.
fn text<'e>(event: &'e Value, key: &str) -> &'e str {
    event[key].as_str().unwrap_or_default()
}

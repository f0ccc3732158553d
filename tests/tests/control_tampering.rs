//! Somebody between control plane and broker who has a certificate that the broker trusts: what is exchanged,
//! repeated or left out is refused, and the broker keeps what it has.

use std::sync::{Arc, Mutex};

use dvx_tests::{Agent, Caller, ControlPlane, Proxy, World, eventually, fresh_uid, skip_without_root};
use serde_json::{Value, json};

/// Two agents whose broker sees the control plane through a proxy.
struct Scene {
    control: ControlPlane,
    proxy: Proxy,
    world: World,
    alpha: Caller,
    beta: Caller,
}

fn scene() -> Scene {
    let control = ControlPlane::start();
    let proxy = Proxy::start(&control);
    let mut world = World::builder()
        .agent(Agent::new("alpha", fresh_uid()))
        .agent(Agent::new("beta", fresh_uid()))
        .control_at(&control, &proxy.url())
        .build();
    for agent in ["alpha", "beta"] {
        for name in ["ONE", "TWO"] {
            control.admin().set_secret(Some(agent), name, &format!("{name} of {agent}"));
        }
    }
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    Scene { control, proxy, world, alpha, beta }
}

impl Scene {
    /// Everything that both agents are served.
    fn served(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for caller in [&self.alpha, &self.beta] {
            for name in ["ONE", "TWO"] {
                let answer = caller.get(&format!("/v1/agent/secrets/{name}"));
                all.push(if answer.status == 200 {
                    answer.json()["value"].clone()
                } else {
                    json!(answer.status)
                });
            }
        }
        all
    }

    /// Changes all values at once where the proxy has its way with what is sent; the broker has to refuse it and
    /// to keep what it had, and to go on when the proxy is honest again.
    #[track_caller]
    fn refuses(&self, what: &str, change: impl FnMut(Value) -> Vec<Value> + Send + 'static) {
        let before = self.served();
        let meddled = Arc::new(Mutex::new(0_u32));
        let (count, mut change) = (Arc::clone(&meddled), change);
        self.proxy.change_lines(move |line| {
            let frame: Value = serde_json::from_str(line).unwrap();
            let lines = change(frame.clone());
            if lines != [frame] {
                *count.lock().unwrap() += 1;
            }
            lines.iter().map(Value::to_string).collect()
        });
        // The next stream resumes with all three changes at once.
        self.proxy.set_targets(&[]);
        self.proxy.cut();
        let admin = self.control.admin();
        admin.set_secret(Some("beta"), "ONE", "new ONE of beta");
        admin.set_secret(Some("alpha"), "TWO", "new TWO of alpha");
        let revision = admin.set_secret(Some("alpha"), "ONE", "new ONE of alpha");
        self.proxy.set_targets(&self.control.addresses());
        eventually(&format!("{what}: readiness says that something is wrong"), || {
            *meddled.lock().unwrap() >= 2 && !self.degraded().is_empty()
        });
        assert_eq!(
            self.served(),
            before,
            "{what}: what was tampered with is not in force, and what was there is"
        );
        self.proxy.be_honest();
        self.proxy.cut();
        self.control.admin().delivered(revision);
        let after = ["new ONE of alpha", "new TWO of alpha", "new ONE of beta", "TWO of beta"];
        assert_eq!(self.served(), after, "{what}: it goes on");
        eventually(&format!("{what}: nothing is wrong any more"), || self.degraded().is_empty());
    }

    fn degraded(&self) -> String {
        let ready = self.world.admin("/readyz").json();
        let degraded = ready["degraded"].as_array().cloned().unwrap_or_default();
        degraded.iter().map(ToString::to_string).collect()
    }
}

fn is(frame: &Value, kind: &str) -> bool {
    frame["type"] == kind
}

/// Holds frames of secrets back until there are two, and gives them to `mix`.
fn in_pairs(
    mut mix: impl FnMut(Value, Value) -> Vec<Value> + Send,
) -> impl FnMut(Value) -> Vec<Value> + Send {
    let mut held: Option<Value> = None;
    move |frame| {
        if is(&frame, "hello") {
            held = None;
        }
        if !is(&frame, "secret") {
            return held.take().into_iter().chain([frame]).collect();
        }
        match held.take() {
            None => {
                held = Some(frame);
                Vec::new()
            }
            Some(first) => mix(first, frame),
        }
    }
}

macro_rules! refused {
    ($test:ident, $what:literal, $change:expr) => {
        #[test]
        fn $test() {
            if skip_without_root(stringify!($test)) {
                return;
            }
            scene().refuses($what, $change);
        }
    };
}

refused!(sealed_values_that_change_places_are_not_opened, "exchanged", {
    in_pairs(|mut first, mut second| {
        let (one, two) = (first["sealed"].take(), second["sealed"].take());
        first["sealed"] = two;
        second["sealed"] = one;
        vec![first, second]
    })
});

refused!(frames_that_change_their_order_are_not_opened, "reordered", {
    in_pairs(|first, second| vec![second, first])
});

refused!(a_frame_that_is_repeated_is_not_opened, "repeated", {
    in_pairs(|first, second| vec![first.clone(), first, second])
});

refused!(a_frame_that_is_left_out_is_noticed, "left out", in_pairs(|_, second| vec![second]));

refused!(a_value_for_one_agent_is_not_opened_for_another, "other agent", |mut frame: Value| {
    if is(&frame, "secret") && frame["agent"] == "alpha" {
        frame["agent"] = json!("beta");
    }
    vec![frame]
});

refused!(a_value_for_an_agent_is_not_opened_for_all, "for all", |mut frame: Value| {
    if is(&frame, "secret") {
        frame.as_object_mut().unwrap().remove("agent");
    }
    vec![frame]
});

refused!(a_value_of_one_name_is_not_opened_under_another, "other name", |mut frame: Value| {
    if is(&frame, "secret") && frame["name"] == "ONE" {
        frame["name"] = json!("TWO");
    }
    vec![frame]
});

refused!(a_value_of_one_revision_is_not_opened_at_another, "other revision", |mut frame: Value| {
    if is(&frame, "secret") {
        frame["revision"] = json!(frame["revision"].as_u64().unwrap() + 1);
    }
    vec![frame]
});

refused!(a_flipped_bit_is_noticed, "flipped", |mut frame: Value| {
    if is(&frame, "secret") {
        let text = frame["sealed"].as_str().unwrap();
        let (first, rest) = text.split_at(1);
        frame["sealed"] = json!(format!("{}{rest}", if first == "A" { "B" } else { "A" }));
    }
    vec![frame]
});

refused!(a_stream_of_another_enclave_is_refused, "other enclave", |mut frame: Value| {
    if is(&frame, "hello") {
        frame["enclave"] = json!("lab-2");
    }
    vec![frame]
});

refused!(a_stream_of_another_organisation_is_refused, "other organisation", |mut frame: Value| {
    if is(&frame, "hello") {
        frame["organisation"] = json!("0197a3c4-0000-7000-8000-000000000000");
    }
    vec![frame]
});

refused!(an_older_revision_is_refused, "older revision", |mut frame: Value| {
    if is(&frame, "commit") {
        frame["revision"] = json!(1);
    }
    vec![frame]
});

refused!(a_line_that_is_no_frame_ends_the_stream, "no frame", |frame: Value| {
    if is(&frame, "commit") { vec![json!(["not", "a", "frame"])] } else { vec![frame] }
});

#[test]
fn a_recorded_stream_is_worth_nothing_to_whoever_plays_it_again() {
    if skip_without_root("a_recorded_stream_is_worth_nothing_to_whoever_plays_it_again") {
        return;
    }
    let mut scene = scene();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let tape = Arc::clone(&recorded);
    scene.proxy.change_lines(move |line| {
        tape.lock().unwrap().push(line.to_owned());
        vec![line.to_owned()]
    });
    // A whole snapshot, taken by a broker that has just begun.
    scene.world.kill();
    scene.world.start();
    let old = scene.served();
    let revision = scene.control.admin().set_secret(Some("alpha"), "ONE", "the newest");
    scene.control.admin().delivered(revision);
    // Played to the broker that has moved on, and to one that has just begun and knows nothing.
    let tape = recorded.lock().unwrap().clone();
    let snapshot: Vec<String> = tape.iter().take_while(|line| !line.contains("heartbeat")).cloned().collect();
    let mut next = 0;
    scene.proxy.change_lines(move |line| {
        if line.contains(r#""type":"hello""#) {
            next = 1;
            return snapshot.clone();
        }
        if next == 1 { Vec::new() } else { vec![line.to_owned()] }
    });
    scene.proxy.cut();
    eventually("the broker refuses it", || !scene.degraded().is_empty());
    assert_eq!(scene.served()[0], "the newest");
    scene.world.kill();
    scene.world.start_unready();
    eventually("a new broker refuses it too", || {
        scene.world.admin("/readyz").text().contains("reason") && !scene.degraded().is_empty()
    });
    let caller = scene.world.caller("alpha");
    assert_ne!(caller.get("/v1/agent/secrets/ONE").status, 200, "had been served: {old:?}");
    scene.proxy.be_honest();
    scene.proxy.cut();
    eventually("it goes on", || {
        let answer = caller.get("/v1/agent/secrets/ONE");
        answer.status == 200 && answer.json()["value"] == "the newest"
    });
}

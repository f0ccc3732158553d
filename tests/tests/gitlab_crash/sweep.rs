//! One run of something for each place at which it can be interrupted.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dvx_tests::{Lab, World, within};
use serde_json::{Value, json};

/// How long a command may take that ends by itself, or because the control plane does.
const COMMAND: Duration = Duration::from_secs(60);

/// Runs in which a call that the recorded one made has to be made again.
const ATTEMPTS: usize = 4;

/// A lab in which one thing after another is interrupted.
pub(crate) struct Sweep {
    pub(crate) lab: Lab,
}

/// How something is interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The control plane is killed.
    Crash,
    /// The connection of a call to GitLab is lost, before its effect or after.
    Loss,
}

/// What is interrupted.
pub(crate) struct Saga<'a> {
    /// What brings the lab to where it can begin.
    pub(crate) prepare: &'a dyn Fn(&mut Lab),
    /// The command that begins it.
    pub(crate) act: &'a dyn Fn(&Lab) -> Command,
    /// Whether all is as it is to be afterwards, given whether the command succeeded.
    pub(crate) check: &'a dyn Fn(&Lab, bool) -> Result<(), String>,
}

/// What an undisturbed run comes by, each in its order.
pub(crate) struct Way {
    /// Places at which the control plane can be made to end, in the form that it takes.
    pub(crate) points: Vec<String>,
    /// Calls to GitLab.
    pub(crate) calls: Vec<String>,
}

impl Sweep {
    /// None, which is said, where clocks cannot be moved.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Lab::movable(test, World::single()).map(|lab| Self { lab })
    }

    /// Starts the control plane anew, so that it ends at a point, or nowhere.
    fn restart(&mut self, point: Option<&str>) {
        let control = &mut self.lab.control;
        control.kill();
        let variable = point.map(|point| ("DVX_TEST_FAIL_POINT", point));
        control.set_environment(variable.as_slice());
        control.start_all();
    }

    /// One run that is left alone, and then one that is interrupted for each place that it came by. Gives those.
    pub(crate) fn sweep(&mut self, saga: &Saga<'_>, interruption: Interruption) -> Way {
        let way = self.record(saga);
        match interruption {
            Interruption::Crash => way.points.iter().for_each(|point| self.crash_at(saga, point)),
            Interruption::Loss => {
                assert!(!way.calls.is_empty(), "nothing was asked of GitLab");
                for (number, call) in way.calls.iter().enumerate() {
                    self.lose(saga, number, "lose_request", call);
                    self.lose(saga, number, "lose_answer", call);
                }
            }
        }
        self.lab.assert_none_is_used_up_twice();
        way
    }

    fn record(&mut self, saga: &Saga<'_>) -> Way {
        self.prepare(saga);
        // There is no such point, and the real ones are told.
        self.restart(Some("none"));
        let (written, asked) = (self.lab.control.log().len(), self.lab.gitlab.requests().len());
        self.run(saga, "an undisturbed run");
        let mut points: Vec<String> = Vec::new();
        for line in self.lab.control.log()[written..].lines().filter(|line| line.contains("fail point")) {
            let value =
                |key: &str| line.split_once(&format!("{key}=\""))?.1.split_once('"').map(|found| found.0);
            let (Some(point), Some(when)) = (value("point"), value("when")) else { continue };
            let side = format!("{point}:{when}:");
            let before = points.iter().filter(|known| known.starts_with(&side)).count();
            points.push(format!("{side}{}", before + 1));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let requests = &self.lab.gitlab.requests()[asked..];
        let call = |request: &Value| format!("{} {}", text(&request["method"]), text(&request["path"]));
        let way = Way { points, calls: requests.iter().map(call).collect() };
        self.restart(None);
        way
    }

    fn crash_at(&mut self, saga: &Saga<'_>, point: &str) {
        self.prepare(saga);
        self.restart(Some(point));
        let mut command = begin(saga, &self.lab);
        let status = within(COMMAND, || command.try_wait().unwrap()).expect("the command ends");
        self.lab.fly("the control plane ends", |lab| match lab.control.replica().daemon().ended() {
            Some(_) => Ok(()),
            None => Err(format!("{point} was not reached")),
        });
        self.restart(None);
        self.lab.fly(point, |lab| (saga.check)(lab, status.success()));
    }

    /// How often GitLab is looked at until something is done there differs, so another run may make the call that
    /// one did not.
    fn lose(&mut self, saga: &Saga<'_>, number: usize, kind: &str, call: &str) {
        for _ in 0..ATTEMPTS {
            self.prepare(saga);
            let fault = json!({"path": "/**", "skip": number, "action": {"kind": kind}});
            self.lab.gitlab.sim("POST", "/faults", &fault);
            self.run(saga, &format!("{kind} of {call}, which is number {number}"));
            let faults = self.lab.gitlab.sim("GET", "/faults", &Value::Null);
            self.lab.gitlab.come_back();
            if faults[0]["seen"].as_u64().unwrap() > number as u64 {
                return;
            }
        }
        panic!("{call}, which is number {number}, was not made in {ATTEMPTS} runs");
    }

    fn prepare(&mut self, saga: &Saga<'_>) {
        (saga.prepare)(&mut self.lab);
        // Whatever may be done only so often in a minute can be done again.
        self.lab.pass(65);
    }

    /// Runs the command to its end, and then whatever it leaves to the background.
    fn run(&mut self, saga: &Saga<'_>, what: &str) {
        let mut command = begin(saga, &self.lab);
        let mut ended = None;
        self.lab.fly(what, |lab| {
            ended = ended.or_else(|| command.try_wait().unwrap());
            match ended {
                Some(status) => (saga.check)(lab, status.success()),
                None => Err("the command still runs".into()),
            }
        });
    }
}

/// Both outputs are nobody's here: what they may show is another test's question.
fn begin(saga: &Saga<'_>, lab: &Lab) -> Child {
    let mut command = (saga.act)(lab);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

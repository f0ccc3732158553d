//! The first minutes: `dvx dev` by somebody without any rights, with the control plane behind it.

use dvx_tests::{CallerSpec, Ground, Outcome, fresh_uid, is_root, own_uid, random_alphanumeric, run};

/// Runs a script in a session of an unprivileged user.
fn session(script: &str) -> Outcome {
    let uid = if is_root() { fresh_uid() } else { own_uid() };
    let ground = Ground::new(uid);
    // A session finds the other programs beside its own.
    let programs = ["dvx-control", "dvx-broker", "dvxir", "dvx"].map(|name| ground.program(name));
    let home = ground.home(uid);
    let mut command = CallerSpec::user(uid).command(&programs[3]);
    command.args(["dev", "--", "sh", "-uc", script]).current_dir(&home);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &home);
    run(&mut command)
}

#[test]
fn a_token_goes_in_by_dvx_and_out_by_dvxir_until_the_agent_is_isolated() {
    let token = format!("glpat-{}", random_alphanumeric(20));
    let script = format!(
        "set -e
         echo {token} | dvx agent secret set me gitlab:token --from-file - \\
             --no-agent-accessible --display-name my-user
         echo got $(dvxir credentials get gitlab)
         dvxir credentials list
         dvxir secrets list | sed 's/^/secret /'
         dvx agent isolate me --reason test
         dvxir credentials get gitlab && echo still served || echo refused $?
         dvx agent restore me
         echo again $(dvxir credentials get gitlab)"
    );
    let outcome = session(&script);
    let text = outcome.success();
    let expected = format!("got {token}\ngitlab    pat    my-user\nrefused 4\nagain {token}\n");
    let told: String = text
        .lines()
        .filter(|line| {
            ["got ", "gitlab ", "secret ", "still ", "refused ", "again "]
                .iter()
                .any(|start| line.starts_with(start))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(told, expected, "{text}\n{}", outcome.stderr);
    assert!(outcome.stderr.contains("isolated"), "{}", outcome.stderr);
}

#[test]
fn every_command_of_an_operator_works_in_the_session() {
    let script = "set -e
        export NO_COLOR=1
        dvx whoami; dvx status
        dvx enclave list; dvx enclave create other > \"$DVX_DEV_DIR/other\"; dvx enclave delete other --yes
        dvx operator create somebody --role auditor > \"$DVX_DEV_DIR/token\"
        DVX_OPERATOR_TOKEN=$(cat \"$DVX_DEV_DIR/token\") dvx whoami -o json
        DVX_OPERATOR_TOKEN=$(cat \"$DVX_DEV_DIR/token\") dvx secret set NO --value x && exit 9 || test $? = 4
        dvx operator list; dvx operator delete somebody --yes
        dvx agent create two --enclave dev --unix-user 4000000; dvx agent list; dvx agent get two
        dvx agent revoke two --reason done; dvx agent reprovision two; dvx agent delete two --yes
        dvx secret set NAME --value for-all; dvx secret list; test \"$(dvxir secrets get NAME)\" = for-all
        dvx agent secret set me NAME --value own; dvx agent secret list me
        test \"$(dvxir secrets get NAME)\" = own
        dvx agent secret delete me NAME --yes; dvx secret delete NAME --yes
        dvx agent integration list me
        dvx audit list -o json > /dev/null; dvx audit export --format ocsf > /dev/null
        for file in broker.toml control.toml broker.pid control.pid audit.jsonl broker.sock broker-admin.sock; do
            test -e \"$DVX_DEV_DIR/$file\" || { echo \"$file is missing\" >&2; exit 1; }
        done
        curl --silent --fail -H \"Authorization: Bearer $(cat $DVX_TOKEN_FILE)\" \"$DVX_BROKER_URL/v1/agent/credentials\"
        echo; echo all of it";
    let outcome = session(script);
    assert_eq!(outcome.status, 0, "{}\n{}", outcome.text(), outcome.stderr);
    assert!(outcome.text().ends_with("all of it\n"), "{}", outcome.text());
}

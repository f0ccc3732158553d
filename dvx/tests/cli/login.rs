//! `dvx login`, and whom a stored token is shown to.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::stub::{Asked, Stub, ok, problem};
use crate::support::{World, dvx, outcome, run};

const WHOAMI: &str = r#"{"name":"ann","role":"admin","organisation":"default"}"#;

const TOKEN: &str = "dvxo_planted-000000000001";

/// Knows one token.
fn strict() -> Stub {
    Stub::new(|asked: &Asked, _| match asked.header("authorization") {
        Some(field) if field == format!("Bearer {TOKEN}") => ok(WHOAMI),
        Some(_) => problem(401, "token-invalid", "the token is not valid"),
        None => problem(401, "token-missing", "an operator token is required"),
    })
}

#[test]
fn a_token_that_is_good_is_stored_and_used_afterwards() {
    let world = World::new(strict());
    let home = world.base.path();
    let line = format!("login --url {} --token-stdin", world.url());
    let login = run(&mut dvx(home, &line), &format!("{TOKEN}\n"));
    let file = home.join(".config/dvx/login.json");
    let table = "NAME    ROLE     ORGANISATION\nann     admin    default\n";
    assert_eq!(login, outcome(0, table, &format!("dvx: logged in; stored in {}\n", file.display())));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(run(&mut dvx(home, "whoami"), "").stdout, table);
    // The same control plane, named by the environment.
    assert_eq!(world.run("whoami").status, 0);
}

#[test]
fn a_token_that_is_refused_is_not_stored() {
    let world = World::new(strict());
    let refused = run(&mut world.command("login --token-stdin"), "dvxo_wrong\n");
    assert_eq!((refused.status, refused.stdout.as_str()), (4, ""));
    assert!(refused.stderr.starts_with("dvx: cannot log in: the token is not valid\nhint: "), "{refused:?}");
    assert!(!world.base.path().join(".config").exists());
}

#[test]
fn a_stored_token_is_shown_to_no_other_control_plane() {
    let world = World::new(strict());
    let home = world.base.path();
    run(&mut dvx(home, &format!("login --url {} --token-stdin", world.url())), TOKEN);
    let other = World::new(Stub::new(|_, _| ok(WHOAMI)));
    run(dvx(home, "whoami").env("DVX_CONTROL_URL", other.url()), "");
    assert_eq!(other.stub.asked()[0].header("authorization"), None);
    run(dvx(home, "whoami").env("DVX_CONTROL_URL", other.url()).env("DVX_OPERATOR_TOKEN", "dvxo_e"), "");
    assert_eq!(other.stub.asked()[1].header("authorization"), Some("Bearer dvxo_e"));
}

#[test]
fn where_the_kernel_names_us_no_token_is_needed() {
    let world = World::new(Stub::new(|_, _| ok(WHOAMI)));
    let config = world.base.path().join("elsewhere");
    let login = run(world.command("login -o json").env("XDG_CONFIG_HOME", &config), "");
    assert_eq!((login.status, login.stdout.as_str()), (0, format!("{WHOAMI}\n").as_str()));
    let stored = fs::read_to_string(config.join("dvx/login.json")).unwrap();
    assert_eq!(stored, format!(r#"{{"url":"{}"}}"#, world.url()));
}

#[test]
fn what_is_missing_without_a_terminal_is_a_usage_error() {
    let world = World::new(strict());
    let no_token = world.run("login");
    assert_eq!(no_token.status, 2);
    assert!(
        no_token
            .stderr
            .starts_with("dvx: no operator token: there is nobody to ask for it\nhint: --token-stdin")
    );
    let no_url = run(&mut dvx(world.base.path(), "login"), "");
    assert_eq!(no_url.status, 2);
    assert!(no_url.stderr.contains("hint: --url says where it is"), "{no_url:?}");
    for bad in ["", "two words"] {
        assert_eq!(world.run_with("login --token-stdin", bad).status, 2);
    }
}

#[test]
fn a_stored_login_that_others_can_read_is_not_used() {
    let world = World::new(strict());
    let home = world.base.path();
    run(&mut dvx(home, &format!("login --url {} --token-stdin", world.url())), TOKEN);
    let file = home.join(".config/dvx/login.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let before = world.stub.asked().len();
    let refused = run(&mut dvx(home, "whoami"), "");
    assert_eq!(refused.status, 4);
    assert!(refused.stderr.contains("others can read or write it"), "{refused:?}");
    assert_eq!(world.stub.asked().len(), before);
}

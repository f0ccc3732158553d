//! broker.toml(5)

use super::text::Block::{Code, Heading, Term, Text};
use super::text::Section;

pub(super) const SECTIONS: &[Section] = &[
    Section { title: "NAME", blocks: &[Text("broker.toml - configuration of dvx-broker")] },
    Section { title: "SYNOPSIS", blocks: &[Text("`/etc/dvx/broker.toml`")] },
    Section {
        title: "DESCRIPTION",
        blocks: &[
            Text(
                "A TOML file that says which agents `dvx-broker`(8) serves, from where, and where it listens. \
                 `dvx-broker check` names every error in it with its line and key. A key that is not listed here \
                 is an error.",
            ),
            Text(
                "The file and the directory that it is in must belong to root or to the broker's user, and nobody \
                 else may be able to write them: who writes this file owns the broker. It holds no secrets. The same \
                 goes for the files that it names.",
            ),
            Text(
                "Paths are absolute; `${NAME}` in them stands for an environment variable. Durations are a number \
                 and a unit, `s`, `m`, `h` or `d`, such as `\"90m\"`.",
            ),
            Text(
                "On SIGHUP, changes of `[[agents]]`, `[limits]` and `max_stale` come into force; others need a \
                 restart, as does another API key.",
            ),
        ],
    },
    Section {
        title: "KEYS",
        blocks: &[
            Term(
                "`enclave`",
                "The name of the sandbox or machine that is served. It stands in agents' tokens and audit lines. \
                 Required.",
            ),
            Heading("[listen]"),
            Term(
                "`unix`",
                "The agents' socket, mode 0666. Its directory must belong to root or to the broker's user and must \
                 not be writable by others. Default `/run/dvx/broker.sock`.",
            ),
            Term(
                "`tcp`",
                "A loopback address for programs that cannot use a Unix socket, such as `127.0.0.1:8471`; port 0 is \
                 any free one, which `dvx-broker status` shows. Callers need a token there. None unless given.",
            ),
            Term("`admin`", "The operator's socket, mode 0600. Default `/run/dvx/broker-admin.sock`."),
            Term("`agents`", "The directory of the agents' token files. Default `/run/dvx/agents`."),
            Heading("[upstream]"),
            Term(
                "`kind`",
                "Where secrets come from: `control`, the control plane, or `directory`. Which of the keys below \
                 there are depends on it. Required.",
            ),
            Term(
                "`url`",
                "`control`: the control plane, `https://host[:port]`, or `unix:///path` on the same machine; see \
                 CONTROL UPSTREAM. Required.",
            ),
            Term(
                "`api_key_file`",
                "`control`: the file with what `dvx enclave create` printed, such as \
                 `${CREDENTIALS_DIRECTORY}/enclave-key`. One that others can read is refused; its group may. \
                 Required.",
            ),
            Term(
                "`ca_file`",
                "`control`: certificates, in PEM, that are trusted besides those of the system. None unless given.",
            ),
            Term("`path`", "`directory`: the directory; see DIRECTORY UPSTREAM. Required."),
            Term(
                "`allow_mode`",
                "`directory`: permission bits, such as `\"0644\"`, that its files may have. Without it, files that \
                 others can read or write are refused.",
            ),
            Term(
                "`max_stale`",
                "How long secrets are served while the upstream cannot be reached or read, `\"1s\"` to `\"30d\"`. \
                 Default `\"1h\"`. It is also how long an enclave that was deleted can be served, so choose no more \
                 than that may be.",
            ),
            Heading("[limits]"),
            Term("`requests_per_second`", "Of each agent; 0 for no limit. Default 2000."),
            Term(
                "`connections`",
                "Of each user, at a time. Default 64. All users without an agent have as many together.",
            ),
            Term(
                "`total_connections`",
                "Of all users, at a time. Default 1024. Where agents could act together, give it room for all of them: their number times `connections`.",
            ),
            Heading("[hardening]"),
            Term(
                "`seccomp`",
                "What happens when the broker makes a system call that it has no use for: `\"kill\"` ends it, \
                 `\"errno\"` fails the call, `\"log\"` only tells the kernel's audit log, `\"off\"` is no filter. \
                 Default `\"kill\"`.",
            ),
            Term(
                "`require_secretmem`",
                "`true`: do not start where the kernel has no memfd_secret(2). Default `false`, which falls back to \
                 locked memory.",
            ),
            Heading("[[agents]]"),
            Text(
                "One for each agent. All that is given must be true of a caller. With `kind = \"control\"` the agents \
                 come from the control plane, and there are none here.",
            ),
            Term("`name`", "The agent's name: `[a-z0-9][a-z0-9_-]{0,63}`. Required."),
            Term("`user`, `uid`", "Its Unix user, by name or by number. One of them is required."),
            Term("`gid`", "A group, by number, that the caller's process must be in."),
            Term(
                "`unit`",
                "A systemd system unit that the caller's process must be in, such as `my-agent.service`.",
            ),
            Term(
                "`cgroup`",
                "A control group, by its path in the cgroup v2 hierarchy, at or below which it must be.",
            ),
            Text(
                "Two agents must never match one process. Those that share a user each need a `unit` or a `cgroup` \
                 that excludes the other's. `unit` and `cgroup` need Linux 6.13 on the Unix socket and 5.8 on \
                 loopback; where the kernel cannot tell, the agent is refused.",
            ),
            Heading("[audit]"),
            Term(
                "`file`",
                "The audit log, created with mode 0600; one that others can read is refused. Without it, lines go \
                 to standard error, and their chain begins anew with each start.",
            ),
        ],
    },
    Section {
        title: "CONTROL UPSTREAM",
        blocks: &[
            Text(
                "The broker keeps a connection to the control plane, which sends the agents of this enclave and their \
                 secrets, and each change as it is made. Values are sealed for this one connection and opened in \
                 protected memory. What was taken over stays in force, for `max_stale`, while the control plane \
                 cannot be reached; the broker tries again after a tenth of a second, then less and less often, at \
                 least every 15 seconds. Before it has heard anything it answers agents with 503.",
            ),
            Text(
                "Until a restart the broker takes nothing older than what it has, so after the control plane's \
                 database was replaced by an older copy the brokers have to be restarted.",
            ),
            Text(
                "An agent whose Unix user this machine does not have, or whose rule is in the way of another \
                 agent's, is refused alone; `dvx-broker status` and `dvx status` name it. Users are looked up again \
                 every minute.",
            ),
            Text(
                "Audit lines are copied to the control plane, from the file and those that a rotation left beside \
                 it; lines that go to standard error from memory, the newest 4,096.",
            ),
            Text(
                "On a Unix socket the API key is shown only to a server that runs as root, as the broker's own user, \
                 or as `dvx-control`; the environment variable `DVX_CONTROL_USER` names another one. Proxies that the \
                 environment names are not used.",
            ),
            Text(
                "The shipped service unit denies all addresses but this machine's. For a control plane elsewhere, and \
                 for a name server that is not on this machine, allow theirs with `systemctl edit dvx-broker`:",
            ),
            Code("[Service]\nIPAddressAllow=192.0.2.10\nLoadCredential=enclave-key:/etc/dvx/enclave-key"),
        ],
    },
    Section {
        title: "DIRECTORY UPSTREAM",
        blocks: &[
            Term("`<path>/<agent>/<provider>.token`", "A token as it is; one line end behind it is dropped."),
            Term(
                "`<path>/<agent>/<provider>.json`",
                "What is known of it, all of it optional: `display_name`, `auth_type` (`pat`, `service_account`, \
                 `project_access_token`), `instance_url`, `expires_at`.",
            ),
            Term("`<path>/<agent>/secrets/<name>`", "A secret of any content, byte for byte."),
            Text(
                "Changes are seen within a second, also those that replace a symbolic link as Kubernetes does. A \
                 file that cannot be read, or that is not what it should be, freezes what it was about at its last \
                 good value, and `dvx-broker status` names it. A file that is gone is a credential that is gone.",
            ),
        ],
    },
    Section {
        title: "EXAMPLES",
        blocks: &[
            Text("One agent that runs as a service of its own:"),
            Code(
                "enclave = \"lab-1\"\n\
                 \n\
                 [listen]\n\
                 tcp = \"127.0.0.1:8471\"\n\
                 \n\
                 [upstream]\n\
                 kind = \"directory\"\n\
                 path = \"/run/dvx/upstream\"\n\
                 \n\
                 [[agents]]\n\
                 name = \"my-agent\"\n\
                 user = \"agent1\"\n\
                 unit = \"my-agent.service\"\n\
                 \n\
                 [audit]\n\
                 file = \"/var/log/dvx/audit.jsonl\"",
            ),
            Text("All agents of an enclave, from the control plane:"),
            Code(
                "enclave = \"lab-1\"\n\
                 \n\
                 [upstream]\n\
                 kind = \"control\"\n\
                 url = \"https://control.example.com\"\n\
                 api_key_file = \"${CREDENTIALS_DIRECTORY}/enclave-key\"\n\
                 max_stale = \"10m\"",
            ),
        ],
    },
    Section { title: "SEE ALSO", blocks: &[Text("`dvx-broker`(8), `dvxir`(1)")] },
];

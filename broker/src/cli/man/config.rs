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
                 else may be able to write them: who writes this file owns the broker. It holds no secrets.",
            ),
            Text(
                "Paths are absolute; `${NAME}` in them stands for an environment variable. Durations are a number \
                 and a unit, `s`, `m`, `h` or `d`, such as `\"90m\"`.",
            ),
            Text(
                "On SIGHUP, changes of `[[agents]]`, `[limits]` and `max_stale` come into force; others need a \
                 restart.",
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
            Term("`kind`", "Where secrets come from. This version has `directory`. Required."),
            Term("`path`", "The directory; see DIRECTORY UPSTREAM. Required."),
            Term(
                "`allow_mode`",
                "Permission bits, such as `\"0644\"`, that its files may have. Without it, files that others can \
                 read or write are refused.",
            ),
            Term(
                "`max_stale`",
                "How long secrets are served while the upstream cannot be read, `\"1s\"` to `\"30d\"`. Default \
                 `\"1h\"`.",
            ),
            Heading("[limits]"),
            Term("`requests_per_second`", "Of each agent; 0 for no limit. Default 2000."),
            Term("`connections`", "Of each user, at a time. Default 64."),
            Term("`total_connections`", "Of all users, at a time. Default 1024."),
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
            Text("One for each agent. All that is given must be true of a caller."),
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
        ],
    },
    Section { title: "SEE ALSO", blocks: &[Text("`dvx-broker`(8), `dvxir`(1)")] },
];

//! dvx-broker(8), behind the commands.

use super::text::Block::{Code, Term, Text};
use super::text::Section;

pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "OPTIONS",
        blocks: &[
            Term("`-h`, `--help`", "Print a command's help; `--help` says more than `-h`."),
            Term("`-V`, `--version`", "Print the version."),
        ],
    },
    Section {
        title: "SIGNALS",
        blocks: &[
            Term(
                "`SIGTERM`, `SIGINT`",
                "Take no more connections, let requests in flight finish for at most 10 seconds, and end. Sockets \
                 that the broker bound itself are removed.",
            ),
            Term(
                "`SIGHUP`",
                "Open the audit file again, so that it can be rotated by renaming it, and read the configuration. \
                 Agents, limits and `max_stale` come into force at once; of the rest it is logged that it takes a \
                 restart. A configuration with errors is reported and changes nothing.",
            ),
        ],
    },
    Section {
        title: "ENVIRONMENT",
        blocks: &[
            Term(
                "`RUST_LOG`",
                "What is logged to standard error, such as `debug` or `warn,dvx_broker::audit=info`. The default is \
                 `info`. No level logs a secret.",
            ),
            Term(
                "`CREDENTIALS_DIRECTORY`",
                "As any other variable, it can stand as `${CREDENTIALS_DIRECTORY}` in the paths of the \
                 configuration (systemd.exec(5)).",
            ),
            Term(
                "`DVX_CONTROL_USER`",
                "The user, besides root and the broker's own, that may serve the control plane's Unix socket. The \
                 default is `dvx-control`.",
            ),
            Term(
                "`SSL_CERT_FILE`, `SSL_CERT_DIR`",
                "Where the system's certificates are, if not where they usually are.",
            ),
            Term(
                "`LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`",
                "Sockets that a service manager made, in any order, told apart by their names: `unix`, `tcp`, \
                 `admin`. Those that are missing are bound as configured.",
            ),
            Term(
                "`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`",
                "Where the service manager hears that the broker is ready, reloading, stopping, and alive. Alive is \
                 a broker that has just answered a request over its own socket.",
            ),
        ],
    },
    Section {
        title: "FILES",
        blocks: &[
            Term("`/etc/dvx/broker.toml`", "The configuration, broker.toml(5)."),
            Term(
                "`/run/dvx/broker.sock`",
                "The agents' socket. Anybody may connect; the kernel says who did.",
            ),
            Term(
                "`/run/dvx/broker-admin.sock`",
                "The operator's socket, mode 0600: HTTP with `/healthz`, `/readyz`, `/metrics` (Prometheus) and \
                 `/status`. None of them shows a value.",
            ),
            Term(
                "`/run/dvx/agents/`AGENT`/token`",
                "A token of the agent's own for the loopback listener, renewed while the broker runs and readable \
                 by that agent's user alone.",
            ),
            Term(
                "`/var/log/dvx/audit.jsonl`",
                "The audit log, if configured so: one JSON object a line, each with the SHA-256 of the line before.",
            ),
        ],
    },
    Section {
        title: "EXIT STATUS",
        blocks: &[
            Term("`0`", "All went well; of `status`: the broker is ready to serve."),
            Term("`1`", "Something else went wrong; of `audit verify`: the chain is broken."),
            Term("`2`", "The command line is not understood."),
            Term("`5`", "Of `status`: the broker cannot be reached, or is not ready to serve."),
            Term("`78`", "The configuration has errors."),
        ],
    },
    Section {
        title: "SECURITY",
        blocks: &[
            Text(
                "A caller is who the kernel says: the user, the groups and the systemd unit or control group of the \
                 process that connected, read once when it did. Nothing in a request says who it is from. On \
                 loopback a token is needed as well.",
            ),
            Text(
                "Secret values are held in pages of memfd_secret(2), which neither a debugger nor root reads, or \
                 where the kernel has none in locked pages that are not dumped; `status` shows which. While such \
                 memory is in use, the machine cannot hibernate. The process cannot be attached to by its own user \
                 and leaves no core dump.",
            ),
            Text(
                "The broker confines itself with seccomp(2) and landlock(7) as far as the kernel goes, and says so \
                 when it starts. Links in the upstream's directory are followed only to where they led then, to \
                 `/run/secrets` and to `/run/credentials`; others need a restart.",
            ),
            Text(
                "Nothing is served that cannot be recorded in the audit log. The log shows each change, insertion \
                 and omission before its last line. That lines are missing at its very end, or that the last line \
                 was changed, it cannot show by itself: keep copies elsewhere, or the `head` that `audit verify` \
                 prints.",
            ),
            Text("An agent that was given a secret can pass it on. The broker cannot prevent that."),
        ],
    },
    Section {
        title: "EXAMPLES",
        blocks: &[
            Text("Is the configuration sound, and what does the broker serve?"),
            Code("dvx-broker check --config /etc/dvx/broker.toml\ndvx-broker status"),
            Text("Rotate the audit log, and check the chain over all of it:"),
            Code(
                "mv /var/log/dvx/audit.jsonl /var/log/dvx/audit.jsonl.1\nsystemctl reload dvx-broker\n\
                 dvx-broker audit verify /var/log/dvx/audit.jsonl*",
            ),
        ],
    },
    Section {
        title: "SEE ALSO",
        blocks: &[Text("`broker.toml`(5), `dvxir`(1), `systemd.exec`(5), `memfd_secret`(2), `unix`(7)")],
    },
];

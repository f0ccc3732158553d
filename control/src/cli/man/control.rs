//! dvx-control(8), behind the commands.

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
                "Take no more connections, end the streams of brokers, which go on serving and connect again, let \
                 requests in flight finish for at most 10 seconds, and end.",
            ),
            Term(
                "`SIGHUP`",
                "Read certificate and key again. Connections that are open keep theirs. Files that cannot be used \
                 are reported and change nothing.",
            ),
        ],
    },
    Section {
        title: "ENVIRONMENT",
        blocks: &[
            Term(
                "`RUST_LOG`",
                "What is logged to standard error, such as `debug` or `warn,dvx_control=info`. The default is \
                 `info`. No level logs a secret.",
            ),
            Term(
                "`CREDENTIALS_DIRECTORY`",
                "As any other variable, it can stand as `${CREDENTIALS_DIRECTORY}` in the paths of the \
                 configuration (systemd.exec(5)).",
            ),
            Term(
                "`NOTIFY_SOCKET`",
                "Where the service manager hears that the control plane is ready or stops.",
            ),
        ],
    },
    Section {
        title: "FILES",
        blocks: &[
            Term("`/etc/dvx/control.toml`", "The configuration, control.toml(5)."),
            Term("`/var/lib/dvx/control.db`", "The database, where it is SQLite; mode 0600."),
            Term(
                "`/run/dvx/control.sock`",
                "The socket of operators on this machine. Anybody may connect: root and the control plane's own user \
                 are admin there, everybody else needs a token.",
            ),
        ],
    },
    Section {
        title: "EXIT STATUS",
        blocks: &[
            Term("`0`", "All went well."),
            Term("`1`", "Something else went wrong; of `init`: the organisation is initialised already."),
            Term("`2`", "The command line is not understood."),
            Term(
                "`78`",
                "The configuration has errors, or a file that it names cannot be used: the key-encryption key is \
                 missing, malformed, readable by others or not the one of this database; certificate and key do not \
                 go together.",
            ),
        ],
    },
    Section {
        title: "SECURITY",
        blocks: &[
            Text(
                "Every value is encrypted with a key of its own (AES-256-GCM), and that with the key-encryption key, \
                 which is not in the database. Organisation, agent, name, version and all that is known of the value \
                 are bound to it, so a row that was moved, edited or put back does not decrypt; that value alone is \
                 then unavailable, with an audit event. Putting back the whole database cannot be noticed.",
            ),
            Text(
                "Whoever has the database and the key-encryption key has every secret: keep them in different \
                 backups. Losing the key loses every value.",
            ),
            Text(
                "Values are never given back to operators. They leave the control plane only sealed for one broker's \
                 connection (HPKE), also within TLS.",
            ),
            Text("Only hashes of operators' tokens and enclaves' keys are stored."),
            Text(
                "While it serves, the control plane confines itself with seccomp(2) and landlock(7) as far as the \
                 kernel goes, and says so when it starts: it starts no programs, listens on nothing else, and has of \
                 the files only the directories of the database, the certificate and its key. Temporary files are \
                 kept in memory.",
            ),
        ],
    },
    Section {
        title: "EXAMPLES",
        blocks: &[
            Text("The first admin, who then logs in:"),
            Code(
                "sudo -u dvx-control dvx-control init --config /etc/dvx/control.toml\n\
                 DVX_CONTROL_URL=unix:///run/dvx/control.sock dvx login",
            ),
            Text("Another key-encryption key:"),
            Code(
                "(umask 077; head -c 32 /dev/urandom | base64 > /root/kek.new)\n\
                 dvx-control rekey --new-kek-file /root/kek.new\n\
                 mv /root/kek.new /etc/credstore/dvx-control.kek",
            ),
        ],
    },
    Section {
        title: "SEE ALSO",
        blocks: &[Text("`control.toml`(5), `dvx`(1), `dvx-broker`(8), `systemd.exec`(5)")],
    },
];

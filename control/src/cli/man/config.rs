//! control.toml(5)

use super::text::Block::{Code, Heading, Term, Text};
use super::text::Section;

pub(super) const SECTIONS: &[Section] = &[
    Section { title: "NAME", blocks: &[Text("control.toml - configuration of dvx-control")] },
    Section { title: "SYNOPSIS", blocks: &[Text("`/etc/dvx/control.toml`")] },
    Section {
        title: "DESCRIPTION",
        blocks: &[
            Text(
                "A TOML file that says where `dvx-control`(8) keeps its data and where it listens. `dvx-control check` \
                 names every error in it with its line and key. A key that is not listed here is an error.",
            ),
            Text(
                "The file and the directory that it is in must belong to root or to the control plane's user, and \
                 nobody else may be able to write them: who writes this file owns the control plane.",
            ),
            Text(
                "Paths are absolute; `${NAME}` in them, and in the database's URL, stands for an environment \
                 variable. Changes need a restart; certificate and key are also read again on SIGHUP.",
            ),
        ],
    },
    Section {
        title: "KEYS",
        blocks: &[
            Heading("[database]"),
            Term(
                "`url`",
                "`sqlite:///PATH` for one control plane, or `postgres://USER@HOST/DATABASE` for any number of them \
                 on one database. SQLite's file is made with mode 0600, in a directory that others must not be able \
                 to write. Required.",
            ),
            Heading("[kek]"),
            Term(
                "`file`",
                "The key-encryption key: 32 bytes in base64, such as a credential of systemd. A file that others can \
                 read is refused. Required.",
            ),
            Heading("[listen]"),
            Text("One of `unix` and `https` is required."),
            Term(
                "`unix`",
                "A socket, mode 0666. Root and the control plane's own user are admin there; everybody else needs a \
                 token. Its directory must belong to root or to the control plane's user and must not be writable by \
                 others.",
            ),
            Term(
                "`https`",
                "An address for operators and brokers, such as `0.0.0.0:8470`; port 0 is any free one, which is \
                 logged. TLS 1.2 or 1.3.",
            ),
            Term(
                "`cert_file`",
                "The certificate and those that lead to its root, in PEM. Required with `https`.",
            ),
            Term("`key_file`", "Its key, in PEM, not readable by others. Required with `https`."),
            Term(
                "`admin`",
                "A loopback address with `/healthz`, `/readyz`, `/metrics` (Prometheus) and `/status`, for which no \
                 token is needed. None unless given.",
            ),
            Heading("[audit]"),
            Term(
                "`retention`",
                "How long audit events are kept, `\"1d\"` to `\"3650d\"`. Default `\"90d\"`.",
            ),
            Heading("[gitlab]"),
            Term(
                "`allow_private`",
                "Networks that a provider's instance may be in besides public ones, such as `[\"10.0.0.0/8\"]`. None \
                 unless given.",
            ),
            Heading("[hardening]"),
            Term(
                "`seccomp`",
                "What happens when the control plane makes a system call that it has no use for: `\"kill\"` ends it, \
                 `\"errno\"` fails the call, `\"log\"` only tells the kernel's audit log, `\"off\"` is no filter. \
                 Default `\"kill\"`.",
            ),
        ],
    },
    Section {
        title: "EXAMPLES",
        blocks: &[
            Text("One machine, with brokers elsewhere:"),
            Code(
                "[database]\n\
                 url = \"sqlite:///var/lib/dvx/control.db\"\n\
                 \n\
                 [kek]\n\
                 file = \"${CREDENTIALS_DIRECTORY}/kek\"\n\
                 \n\
                 [listen]\n\
                 unix = \"/run/dvx/control.sock\"\n\
                 https = \"0.0.0.0:8470\"\n\
                 cert_file = \"/etc/dvx/tls.pem\"\n\
                 key_file = \"${CREDENTIALS_DIRECTORY}/tls-key\"\n\
                 admin = \"127.0.0.1:8469\"",
            ),
        ],
    },
    Section { title: "SEE ALSO", blocks: &[Text("`dvx-control`(8), `dvx`(1)")] },
];

//! The parts of the manual that only people can write.

use crate::environment::{BROKER_URL, BROKER_USER, TOKEN_FILE};
use crate::error::Exit;

pub(super) const VARIABLES: &[(&str, &str)] = &[
    (
        BROKER_URL,
        "Where the broker is: unix:///path or http://127.0.0.1:port. Default: unix:///run/dvx/broker.sock.",
    ),
    (
        TOKEN_FILE,
        "The file with the agent's token. Default: ~/.dvx/token, which is read only when the broker is reached \
         over TCP: on the Unix socket the kernel says who is calling.",
    ),
    (
        BROKER_USER,
        "The user (name or number) whose socket is trusted besides root's and one's own. Default: dvx.",
    ),
];

pub(super) const EXITS: &[(Exit, &str)] = &[
    (Exit::Success, "Done. Also when the reader of the output went away early."),
    (Exit::Other, "Another failure."),
    (Exit::Usage, "The command line or a variable cannot be meant."),
    (Exit::NotFound, "There is no such credential or secret for this agent."),
    (
        Exit::Refused,
        "Refused: the caller is unknown, isolated or revoked, or the socket is served by a user who is not trusted.",
    ),
    (Exit::Unreachable, "The broker cannot be reached or is not ready."),
    (Exit::Expired, "The credential has expired."),
    (Exit::RateLimited, "Too many requests; the message says how long to wait."),
];

pub(super) const DESCRIPTION: &[&str] = &[
    "dvxir gives an agent the credentials and secrets that its enclave's broker holds for it. The broker knows \
     its callers by their Unix user, which the kernel names, so there is no login and no configuration.",
    "The answer goes to standard output and nothing else does. When a command fails, standard output is empty \
     and standard error has one line that says what failed and why, and sometimes a second one, beginning with \
     hint:, that says what to do.",
];

pub(super) const FILES: &[(&str, &str)] = &[
    ("/run/dvx/broker.sock", "The broker's socket, unless DVX_BROKER_URL names another address."),
    (
        "~/.dvx/token",
        "A link to the agent's token, which the broker keeps fresh. dvxir init makes it. Programs that reach the \
         broker over TCP send this token; on the Unix socket none is needed.",
    ),
    ("/run/dvx/agents/<agent>/token", "The token itself, readable by the agent's user alone."),
    ("~/.gitconfig", "dvxir init sets credential.<url>.helper there for each linked instance."),
];

pub(super) const SECURITY: &[&str] = &[
    "A socket that is served by anyone but root, the user dvx (or DVX_BROKER_USER) or the caller is refused \
     before anything is sent, so that whoever squats on its path gets no token and feeds no credentials. On TCP \
     there is no such proof, and the token that is sent there is bound to its user and lives for five minutes. \
     No proxy is ever used.",
    "A token that dvxir prints is in the agent's hands: the agent can leak it. dvxir itself keeps no copy, writes \
     no file, and puts it into no argument list. Its memory is wiped as it is given back.",
    "Text of other people's, such as a name at a provider, is stripped of what acts on a terminal before it is \
     shown in columns or messages. Values that get prints are not changed.",
];

pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("Which providers are linked:", "$ dvxir credentials list\ngitlab    pat    my-user"),
    (
        "A call of GitLab's API, with the token in no argument list:",
        "$ printf 'Authorization: Bearer %s' \"$(dvxir credentials get gitlab)\" |\n    curl -H @- https://gitlab.com/api/v4/user",
    ),
    ("A tool that reads GITLAB_TOKEN:", "$ dvxir exec -- glab mr list"),
    (
        "Set the account up, then use git:",
        "$ eval \"$(dvxir init)\"\n$ git clone https://gitlab.com/group/project.git",
    ),
];

pub(super) const GIT_DESCRIPTION: &[&str] = &[
    "A credential helper for git. It answers for the instances that the agent is linked to and for nothing else: \
     scheme, host, port and, where the instance lies under one, path match exactly, and only https, or http to \
     loopback, is answered at all. For any other host it prints nothing, and git asks its next helper.",
    "With git 2.46 or newer a token that was revoked or replaced does not fail a command: when the server refuses \
     the first token, git asks again within the same command, and the answer waits up to ten seconds for a newer \
     one.",
];

pub(super) const GIT_COMMANDS: &[(&str, &str)] = &[
    (
        "get",
        "Reads git's attributes from standard input and prints user name and password, when the password ends \
         where that is known, and where git offers to keep state what makes it ask again after a refusal.",
    ),
    ("store", "Does nothing: the broker has the token already."),
    (
        "erase",
        "Tells the broker, by its fingerprint, that a token was refused. Always quiet and successful. The broker \
         has it checked; git also erases good tokens.",
    ),
];

pub(super) const GIT_FILES: &[(&str, &str)] = &[
    ("/run/dvx/broker.sock", "The broker's socket, unless DVX_BROKER_URL names another address."),
    (
        "~/.gitconfig",
        "dvxir init puts an empty helper and then this one into credential.<url>.helper, so that no other helper \
         is asked, or told to store a token.",
    ),
];

pub(super) const GIT_EXITS: &[(&str, &str)] = &[
    ("0", "Answered, or there is nothing to say."),
    (
        "1 to 7",
        "No answer, as in dvxir(1); git ignores the number. When an operator has isolated or revoked the agent, \
         quit=1 is printed as well, and git asks nobody else.",
    ),
];

pub(super) const GIT_SECURITY: &[&str] = &[
    "A question with a NUL, a carriage return, an attribute given twice, a missing protocol or host, or a host \
     with a user part or a dot at its end is refused as a whole.",
    "A helper that comes after this one in git's configuration is handed the token to store it. dvxir init warns \
     of such helpers.",
];

pub(super) const GIT_EXAMPLES: &[(&str, &str)] = &[
    (
        "What dvxir init sets:",
        "[credential \"https://gitlab.com\"]\n\thelper =\n\thelper = /usr/bin/dvxir git-credential",
    ),
    (
        "Ask by hand:",
        "$ printf 'protocol=https\\nhost=gitlab.com\\n\\n' | dvxir git-credential get\nusername=oauth2\npassword=...",
    ),
];

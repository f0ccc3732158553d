//! Who may be at the other end: a socket's path says nothing, since whoever may write its directory can put
//! a socket there. The kernel says which user called listen(2).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::{User, geteuid};

/// Stands for every user that has no number in our user namespace (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65534;

/// The users from whom tokens are entrusted: root, the caller, and one more.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    user: OsString,
}

impl Trust {
    /// Trusts this user too.
    pub(crate) fn new(user: OsString) -> Self {
        Self { user }
    }

    /// Whether a socket that `uid` serves is trusted. The user database is asked last: it is the slow part.
    pub(crate) fn covers(&self, uid: u32) -> bool {
        match uid {
            0 => true,
            OVERFLOW_UID => false,
            _ => uid == geteuid().as_raw() || self.user_id() == Some(uid),
        }
    }

    /// The user's name, for messages.
    pub(crate) fn user(&self) -> &OsStr {
        &self.user
    }

    /// `/etc/passwd` first: a system's service users are there, and looking elsewhere loads and asks name
    /// services.
    fn user_id(&self) -> Option<u32> {
        if let Some(number) = self.user.to_str().and_then(|user| user.parse().ok()) {
            return Some(number);
        }
        let local =
            std::fs::read("/etc/passwd").ok().and_then(|text| id_in_passwd(&text, self.user.as_bytes()));
        local.or_else(|| Some(User::from_name(self.user.to_str()?).ok()??.uid.as_raw()))
    }
}

/// The number of a user in the text of a passwd(5) file.
fn id_in_passwd(text: &[u8], name: &[u8]) -> Option<u32> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_caller_are_trusted_and_strangers_are_not() {
        let trust = Trust::new("nobody-has-this-name".into());
        assert!(trust.covers(0));
        assert!(trust.covers(geteuid().as_raw()));
        assert!(!trust.covers(4_000_000_000));
    }

    #[test]
    fn users_without_a_number_are_nobody() {
        assert!(!Trust::new("65534".into()).covers(65534));
        assert!(!Trust::new("nobody".into()).covers(65534));
    }

    #[test]
    fn a_user_can_be_named_by_number() {
        assert!(Trust::new("4000000000".into()).covers(4_000_000_000));
    }

    #[test]
    fn names_in_passwd_match_as_a_whole() {
        let text = b"root:x:0:0::/root:/bin/sh\ndvx-x:x:7:7::/:\nxdvx:x:8:8::/:\ndvx:x:990:990::/:\ndvx:x:991:1::/:\n";
        assert_eq!(id_in_passwd(text, b"dvx"), Some(990));
        assert_eq!(id_in_passwd(text, b"dv"), None);
        assert_eq!(id_in_passwd(b"dvx:x\ndvx::5", b"dvx"), Some(5));
        assert_eq!(id_in_passwd(b"", b"dvx"), None);
    }
}

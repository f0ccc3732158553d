//! Acting as another user for a while.

use nix::unistd::{Uid, setresuid};

use crate::users;

/// While this lives, a root process is somebody else: to the kernel's answer about a peer, and to programs that it
/// starts. Only the saved user stays root, which is the way back. Does nothing where the process is not root.
#[must_use]
pub struct Acting(bool);

impl Acting {
    /// Becomes this user.
    pub fn as_user(uid: u32) -> Self {
        let root = users::is_root();
        if root {
            let user = Uid::from_raw(uid);
            setresuid(user, user, Uid::from_raw(0)).expect("root can become anybody");
        }
        Self(root)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.0 {
            let root = Uid::from_raw(0);
            setresuid(root, root, root).expect("the saved user is root");
        }
    }
}

//! POSIX access control lists, as Linux keeps them in an extended attribute: acl(5), and the kernel's
//! `uapi/linux/posix_acl_xattr.h`. They let one user in without a change of owner, which would take a
//! capability.

use std::os::fd::AsFd;

use rustix::fs::{Mode, XattrFlags, fchmod, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// Who besides the owner may use a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    Nobody,
    User(u32),
    Group(u32),
}

/// What the owner and the guest may do, as in a mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub(super) owner: u16,
    pub(super) guest: u16,
}

pub(super) const READ: u16 = 4;
pub(super) const WRITE: u16 = 2;
pub(super) const SEARCH: u16 = 1;

const ATTRIBUTE: &str = "system.posix_acl_access";

/// Lets in the owner and the guest, and nobody else.
pub(super) fn admit(file: impl AsFd, guest: Guest, rights: Rights) -> Result<(), Errno> {
    let (tag, id) = match guest {
        Guest::User(uid) => (USER, uid),
        Guest::Group(gid) => (GROUP, gid),
        Guest::Nobody => {
            match fremovexattr(&file, ATTRIBUTE) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
            return fchmod(&file, Mode::from_raw_mode(u32::from(rights.owner) << 6));
        }
    };
    fsetxattr(&file, ATTRIBUTE, &encode(tag, id, rights), XattrFlags::empty())
}

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Of the entries that name nobody.
const NO_ID: u32 = u32::MAX;

/// A list with one guest. The kernel wants the entries in the order of their tags.
fn encode(tag: u16, id: u32, rights: Rights) -> Vec<u8> {
    let mut entries = [
        (USER_OBJ, rights.owner, NO_ID),
        (tag, rights.guest, id),
        (GROUP_OBJ, 0, NO_ID),
        (MASK, rights.guest, NO_ID),
        (OTHER, 0, NO_ID),
    ];
    entries.sort_unstable_by_key(|(tag, ..)| *tag);
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

//! Who is at the other end of a connection, as the kernel says.

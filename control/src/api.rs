//! What can be asked of the control plane.

pub(crate) mod enclave;
pub(crate) mod operator;

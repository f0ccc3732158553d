//! Protected memory for secret values.

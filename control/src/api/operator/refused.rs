//! Why an identity is not linked, made or replaced, as a refusal.

use crate::http::error::Refusal;
use crate::integrations::IntegrationError;

impl From<IntegrationError> for Refusal {
    fn from(error: IntegrationError) -> Self {
        match error {
            IntegrationError::Store(error) => error.into(),
            error => Self::from(error.problem()).with_retry_after(error.retry_after()),
        }
    }
}

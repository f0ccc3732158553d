//! What a token is, judged by how it begins.

use dvx_proto::Token;

/// What kind of token a text seems to be. A hint for messages, never a reason to refuse by itself: the prefix of
/// personal access tokens can be set by whoever runs an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A personal, project or group access token of GitLab: the prefix does not say which.
    GitLabAccess,
    /// A token of GitLab that the API does not take; the name of its kind.
    GitLabOther(&'static str),
    /// A personal access token of GitHub, classic or fine-grained.
    GitHubPersonal,
    /// A token of GitHub that is an app's or another program's; the name of its kind.
    GitHubOther(&'static str),
    /// Anything: an old token, or one of an instance with a prefix of its own.
    Unknown,
}

/// By prefix; of two that fit, the longer stands first.
const KINDS: [(&str, TokenKind); 20] = [
    ("glpat-", TokenKind::GitLabAccess),
    ("gloas-", TokenKind::GitLabOther("OAuth application secret")),
    ("gldt-", TokenKind::GitLabOther("deploy token")),
    ("glrtr-", TokenKind::GitLabOther("runner registration token")),
    ("glrt-", TokenKind::GitLabOther("runner token")),
    ("glcbt-", TokenKind::GitLabOther("CI job token")),
    ("glptt-", TokenKind::GitLabOther("pipeline trigger token")),
    ("glft-", TokenKind::GitLabOther("feed token")),
    ("glimt-", TokenKind::GitLabOther("incoming mail token")),
    ("glagent-", TokenKind::GitLabOther("agent token")),
    ("glwt-", TokenKind::GitLabOther("workspace token")),
    ("glsoat-", TokenKind::GitLabOther("SCIM token")),
    ("glffct-", TokenKind::GitLabOther("feature flags client token")),
    ("github_pat_", TokenKind::GitHubPersonal),
    ("ghp_", TokenKind::GitHubPersonal),
    ("gho_", TokenKind::GitHubOther("OAuth token")),
    ("ghu_", TokenKind::GitHubOther("app's user token")),
    ("ghs_", TokenKind::GitHubOther("app's installation token")),
    ("ghr_", TokenKind::GitHubOther("refresh token")),
    ("GR1348941", TokenKind::GitLabOther("runner registration token")),
];

impl TokenKind {
    /// The kind of `token`.
    pub fn of(token: &Token) -> Self {
        let fits = |(prefix, _): &&(&str, Self)| token.expose_secret().starts_with(prefix.as_bytes());
        KINDS.iter().find(fits).map_or(Self::Unknown, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_token_is_of_the_kind_that_its_prefix_says() {
        for (text, kind) in [
            ("glpat-aaaaaaaaaaaaaaaaaaaa", TokenKind::GitLabAccess),
            ("glrt-x", TokenKind::GitLabOther("runner token")),
            ("glrtr-x", TokenKind::GitLabOther("runner registration token")),
            ("gldt-x", TokenKind::GitLabOther("deploy token")),
            ("github_pat_x", TokenKind::GitHubPersonal),
            ("ghp_x", TokenKind::GitHubPersonal),
            ("ghs_x", TokenKind::GitHubOther("app's installation token")),
            ("company-x", TokenKind::Unknown),
            ("xglpat-x", TokenKind::Unknown),
        ] {
            let token = Token::try_from(Zeroizing::new(text.as_bytes().to_vec())).unwrap();
            assert_eq!(TokenKind::of(&token), kind, "{text}");
        }
    }
}

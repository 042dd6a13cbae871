//! Whose a token is, and the pod that it was given to.

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo},
    core::v1::Pod,
};
use kube::{Api, api::PostParams};
use weft_model::ObjectName;

use super::{AskError, Cluster, answered};

/// What the API server says to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// It is good, for the audience that was asked about.
    Good(TokenUser),
    /// It is not, and why: expired, of a pod that is gone, for another audience, or no token at all.
    Bad(String),
}

/// Whose a token is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUser {
    /// As RBAC knows him: `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The node of the pod, or the node itself, that the token is bound to.
    pub node: Option<String>,
    /// The name of that pod.
    pub pod: Option<String>,
    /// Its UID.
    pub pod_uid: Option<String>,
}

/// A pod, as far as it matters who runs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its UID.
    pub uid: String,
    /// Where it runs.
    pub node: Option<String>,
    /// The name of its ServiceAccount.
    pub service_account: Option<String>,
    /// It has run to its end.
    pub over: bool,
}

impl Cluster {
    /// Asks whose `token` is, which has to be for `audience`.
    pub async fn review_token(&self, token: &str, audience: &str) -> Result<TokenAnswer, AskError> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client());
        let answer =
            answered("create", "TokenReview", reviews.create(&PostParams::default(), &review)).await?;
        Ok(TokenAnswer::of(answer.status.unwrap_or_default(), audience))
    }

    /// The pod `name`, if it is there.
    pub async fn pod(&self, name: &ObjectName) -> Result<Option<PodFacts>, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &name.namespace);
        let pod = answered("get", format!("Pod {name}"), pods.get_opt(&name.name)).await?;
        Ok(pod.map(PodFacts::of))
    }
}

impl TokenAnswer {
    /// A server that knows nothing of audiences says so by naming none: what it takes may be for anybody.
    fn of(status: TokenReviewStatus, audience: &str) -> Self {
        if status.authenticated != Some(true) {
            let why = status.error.filter(|error| !error.is_empty());
            return Self::Bad(why.unwrap_or_else(|| "the API server does not know it".to_owned()));
        }
        if !status.audiences.iter().flatten().any(|it| it == audience) {
            return Self::Bad(format!("it is not for the audience {audience}"));
        }
        Self::Good(TokenUser::of(status.user.unwrap_or_default()))
    }
}

impl TokenUser {
    fn of(user: UserInfo) -> Self {
        let extra = user.extra.unwrap_or_default();
        // Several values would leave open which is meant.
        let only = |key: &str| match extra.get(&format!("authentication.kubernetes.io/{key}"))?.as_slice() {
            [one] if !one.is_empty() => Some(one.clone()),
            _ => None,
        };
        Self {
            node: only("node-name"),
            pod: only("pod-name"),
            pod_uid: only("pod-uid"),
            name: user.username.unwrap_or_default(),
        }
    }
}

impl PodFacts {
    fn of(pod: Pod) -> Self {
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        Self {
            uid: pod.metadata.uid.unwrap_or_default(),
            node: spec.node_name,
            service_account: spec.service_account_name,
            over: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(audiences: Option<&[&str]>, extra: &[(&str, &[&str])]) -> TokenReviewStatus {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let extra = extra
            .iter()
            .map(|(key, values)| (format!("authentication.kubernetes.io/{key}"), texts(values)))
            .collect();
        let user = UserInfo {
            username: Some("system:serviceaccount:weft-system:weft-agent".to_owned()),
            extra: Some(extra),
            ..UserInfo::default()
        };
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: audiences.map(texts),
            user: Some(user),
            error: None,
        }
    }

    #[test]
    fn a_token_is_good_only_where_the_server_says_for_whom() {
        let answer = TokenAnswer::of(status(Some(&["weft-ca"]), &[("node-name", &["n1"])]), "weft-ca");
        let TokenAnswer::Good(user) = answer else { panic!("{answer:?}") };
        assert_eq!((user.node.as_deref(), user.pod_uid), (Some("n1"), None));
        for audiences in [None, Some(&[][..]), Some(&["https://kubernetes.default.svc"])] {
            let answer = TokenAnswer::of(status(audiences, &[]), "weft-ca");
            assert!(matches!(answer, TokenAnswer::Bad(_)), "{audiences:?}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_bad_whatever_else_it_says() {
        let refused = TokenReviewStatus { authenticated: Some(false), ..status(Some(&["weft-ca"]), &[]) };
        assert!(matches!(TokenAnswer::of(refused, "weft-ca"), TokenAnswer::Bad(_)));
        let silent = TokenReviewStatus { authenticated: None, ..status(Some(&["weft-ca"]), &[]) };
        assert!(matches!(TokenAnswer::of(silent, "weft-ca"), TokenAnswer::Bad(_)));
    }

    #[test]
    fn of_two_nodes_neither_is_believed() {
        let answer = TokenAnswer::of(status(Some(&["weft-ca"]), &[("node-name", &["n1", "n2"])]), "weft-ca");
        let TokenAnswer::Good(user) = answer else { panic!("{answer:?}") };
        assert_eq!(user.node, None);
    }
}

//! A request that is not answered by a server, and how the client is told.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::AnswerBody;
use crate::{
    Reason,
    limits::retry::Outcome,
    route::{
        answer::{self, Form, REASON},
        grpc,
    },
    tokens::Refusal,
};

/// A request that gets an answer of the proxy's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    reason: Reason,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// As the reason says.
    Plain,
    /// With `Retry-After`, in seconds.
    Later(u64),
    /// With `WWW-Authenticate`, where another token would help.
    Challenged(Refusal),
    /// With this status, or this gRPC code; who speaks no gRPC is told the status that means the same.
    As(Result<u16, u32>),
}

/// A try that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    pub outcome: Outcome,
    pub reason: Reason,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, how: How::Plain }
    }
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { reason: why.reason(), how: How::Challenged(why) }
    }
}

impl Refused {
    pub(super) fn limited(retry_after: u64) -> Self {
        Self { reason: Reason::RATE_LIMITED, how: How::Later(retry_after) }
    }

    pub(super) fn injected(status: Result<u16, u32>) -> Self {
        Self { reason: Reason::FAULT_INJECTED, how: How::As(status) }
    }

    pub(super) fn reason(self) -> Reason {
        self.reason
    }

    /// The answer in the client's form.
    pub(super) fn into_answer(self, form: Form) -> Response<AnswerBody> {
        // A reason without a status resets the connection before there is a request.
        let status = self.reason.status().and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let (word, text) = (self.reason.word(), self.reason.meaning());
        let mut answer = match self.how {
            How::As(Err(code)) if form == Form::Grpc => {
                let mut answer = grpc::trailers_only(grpc::Code(code), text).map(|()| String::new());
                answer.headers_mut().insert(REASON, HeaderValue::from_static(word));
                answer
            }
            How::As(said) => {
                let status = said.unwrap_or_else(|code| grpc::Code(code).http_status());
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                answer::refusal(form, status, word, text)
            }
            How::Plain | How::Later(_) | How::Challenged(_) => answer::refusal(form, status, word, text),
        };
        if let How::Challenged(why) = self.how
            && let Some(challenge) = why.challenge()
        {
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let How::Later(seconds) = self.how {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer.map(|text| AnswerBody::text(Bytes::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::TokenRefused;

    use super::*;

    #[test]
    fn who_has_a_bad_token_is_told_so_in_the_form_that_he_understands() {
        let refused = Refused::from(Refusal::Token(TokenRefused::Expired));
        let text = refused.into_answer(Form::Text);
        assert_eq!(
            (text.status().as_u16(), &text.headers()[REASON]),
            (401, &"TokenExpired".parse().unwrap())
        );
        assert!(text.headers()[WWW_AUTHENTICATE].to_str().unwrap().contains("it has expired"));
        let call = refused.into_answer(Form::Grpc);
        assert_eq!(call.status(), 200);
        assert_eq!(call.headers()[grpc::STATUS], "16", "UNAUTHENTICATED");
        assert_eq!(call.headers()[REASON], "TokenExpired");

        let unknown = Refused::from(Refusal::NoKeys);
        let text = unknown.into_answer(Form::Text);
        assert_eq!((text.status().as_u16(), text.headers().get(WWW_AUTHENTICATE)), (503, None));
        assert_eq!(unknown.into_answer(Form::Grpc).headers()[grpc::STATUS], "14", "UNAVAILABLE");
    }
}

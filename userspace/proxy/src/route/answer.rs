//! Answers of weft itself: a status, a Reason, a sentence for people.

use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request,
};

use super::grpc;

/// Says why, in the word that flows, metrics and the command line have for it.
pub const REASON: HeaderName = HeaderName::from_static("x-weft-reason");

/// The form in which a client understands an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A status and a text.
    Text,
    /// As [`Form::Text`], without the text: the request was `HEAD`.
    Head,
    /// Trailers only.
    Grpc,
}

impl Form {
    /// The form for a request.
    pub fn of(parts: &request::Parts) -> Self {
        match parts.method {
            Method::HEAD => Self::Head,
            _ if grpc::is_grpc(&parts.headers) => Self::Grpc,
            _ => Self::Text,
        }
    }
}

/// A refusal as the client sees it; whole, with the body as text. `reason` is a word of the closed list, `text` says what
/// happened and the remedy. gRPC clients get the code of [`grpc::Code::for_refusal`].
pub fn refusal(form: Form, status: StatusCode, reason: &'static str, text: &str) -> Response<String> {
    let mut answer = match form {
        Form::Grpc => grpc::trailers_only(grpc::Code::for_refusal(status), text).map(|()| String::new()),
        Form::Text | Form::Head => as_text(form, status, text),
    };
    answer.headers_mut().insert(REASON, HeaderValue::from_static(reason));
    answer
}

fn as_text(form: Form, status: StatusCode, text: &str) -> Response<String> {
    let body = format!("{text}\n");
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(if form == Form::Head { String::new() } else { body });
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::fixture::request;

    const TEXT: &str = "no endpoint of shop/reviews is ready";

    #[test]
    fn an_http_client_reads_status_reason_and_text() {
        let form = Form::of(&request("/", &[]));
        let answer = refusal(form, StatusCode::SERVICE_UNAVAILABLE, "NoEndpoints", TEXT);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[REASON], "NoEndpoints");
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(answer.headers()[CONTENT_LENGTH], "37");
        assert_eq!(answer.body(), "no endpoint of shop/reviews is ready\n");
    }

    #[test]
    fn head_has_the_headers_and_no_body() {
        let mut head = request("/", &[]);
        head.method = Method::HEAD;
        let answer = refusal(Form::of(&head), StatusCode::NOT_FOUND, "NoRule", TEXT);
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (404, ""));
        assert_eq!(answer.headers()[CONTENT_LENGTH], "37");
    }

    #[test]
    fn a_grpc_client_reads_a_code_a_message_and_the_reason() {
        let call = request("/a/b", &[("content-type", "application/grpc+proto")]);
        let answer = refusal(Form::of(&call), StatusCode::NOT_FOUND, "NoRule", "no rule matches");
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, ""));
        assert_eq!(answer.headers()[grpc::STATUS], "12");
        assert_eq!(answer.headers()[grpc::MESSAGE], "no rule matches");
        assert_eq!(answer.headers()[REASON], "NoRule");
        assert!(answer.headers().get(CONTENT_LENGTH).is_none());
    }
}

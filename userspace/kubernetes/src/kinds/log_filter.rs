//! `accessLog.filter`: the part of CEL that can be asked of a request without an engine for CEL.
//!
//! ```text
//! any    = all ("||" all)*
//! all    = not ("&&" not)*
//! not    = "!" not | "(" any ")" | attribute test
//! test   = ("==" | "!=" | "<" | "<=" | ">" | ">=") literal | "." method "(" text ")"
//! ```
//!
//! Everything else is refused with its place, so that nothing is logged, or not, by a misunderstanding.

use thiserror::Error;
use weft_model::{Comparison, LogFilter, LogNumber, LogText, TextTest};

use crate::syntax;

/// Why a filter is refused. Places count characters from 1.
#[derive(Debug, Error, PartialEq)]
pub(super) enum FilterError {
    /// Something else was to stand there.
    #[error("at {place}: {wanted} is missing before {found}")]
    Missing { place: usize, wanted: &'static str, found: String },
    /// No attribute of that name.
    #[error("at {place}: there is no attribute {name}")]
    Attribute { place: usize, name: String },
    /// An operator or a value that does not go with the attribute.
    #[error("at {place}: {name} is {kind}, and cannot be asked for that")]
    Type { place: usize, name: String, kind: &'static str },
    /// A character that begins nothing.
    #[error("at {place}: {found} means nothing here")]
    Character { place: usize, found: String },
    /// A text or a duration that has no end or is none.
    #[error("at {place}: {found} is no {wanted}")]
    Literal { place: usize, found: String, wanted: &'static str },
    /// Too much of it.
    #[error("at {place}: conditions are nested more than {MOST_NESTED} deep")]
    Nested { place: usize },
}

impl FilterError {
    /// What to write instead.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Attribute { .. } => {
                let names = NUMBERS.iter().map(|(name, _)| *name).chain(TEXTS.iter().map(|(name, _)| *name));
                format!("write one of {}", names.collect::<Vec<_>>().join(", "))
            }
            Self::Type { kind: "a duration", .. } => "compare it with duration('1s')".to_owned(),
            Self::Type { kind: "a number", .. } => "compare it with a number by == != < <= > >=".to_owned(),
            Self::Type { .. } => "use == or !=, startsWith, endsWith or contains, with a text".to_owned(),
            _ => "write conditions like response.code >= 500, joined by && and ||".to_owned(),
        }
    }
}

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<LogFilter, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.chars().count() + 1 };
    let filter = parser.any(0)?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => Err(parser.missing("&& or ||")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Number(u64),
    Text(String),
    Sign(&'static str),
}

struct Parser {
    /// Each with its place.
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Result<LogFilter, FilterError> {
        let mut all = vec![self.all(depth)?];
        while self.takes("||") {
            all.push(self.all(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { LogFilter::Any(all) })
    }

    fn all(&mut self, depth: usize) -> Result<LogFilter, FilterError> {
        let mut all = vec![self.not(depth)?];
        while self.takes("&&") {
            all.push(self.not(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { LogFilter::All(all) })
    }

    fn not(&mut self, depth: usize) -> Result<LogFilter, FilterError> {
        if depth > MOST_NESTED {
            return Err(FilterError::Nested { place: self.place() });
        }
        if self.takes("!") {
            return Ok(LogFilter::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.takes("(") {
            let filter = self.any(depth + 1)?;
            self.expect(")")?;
            return Ok(filter);
        }
        self.test()
    }

    fn test(&mut self) -> Result<LogFilter, FilterError> {
        let place = self.place();
        let Some(Token::Name(mut name)) = self.peek().cloned() else {
            return Err(self.missing("an attribute"));
        };
        self.next += 1;
        let method = METHODS.iter().find(|(method, _)| name.ends_with(&format!(".{method}")));
        if let Some((method, _)) = method {
            name.truncate(name.len() - method.len() - 1);
        }
        let number = NUMBERS.iter().find(|(known, _)| *known == name);
        let text = TEXTS.iter().find(|(known, _)| *known == name);
        match (number, text, method) {
            (Some((_, attribute)), _, None) => self.number(place, name, *attribute),
            (Some((_, attribute)), _, Some(_)) => {
                Err(FilterError::Type { place, name, kind: kind_of(*attribute) })
            }
            (_, Some((_, attribute)), Some((_, how))) => {
                self.expect("(")?;
                let wanted = self.text(place, name)?;
                self.expect(")")?;
                Ok(LogFilter::Text(*attribute, *how, wanted.into()))
            }
            (_, Some((_, attribute)), None) => {
                let how = match self.comparison()? {
                    Comparison::Equal => TextTest::Equal,
                    Comparison::NotEqual => TextTest::NotEqual,
                    _ => return Err(FilterError::Type { place, name, kind: "a text" }),
                };
                Ok(LogFilter::Text(*attribute, how, self.text(place, name)?.into()))
            }
            (None, None, _) => Err(FilterError::Attribute { place, name }),
        }
    }

    fn number(&mut self, place: usize, name: String, attribute: LogNumber) -> Result<LogFilter, FilterError> {
        let comparison = self.comparison()?;
        let at = self.place();
        let value = self.peek().cloned();
        self.next += 1;
        let value = match (attribute, value) {
            (LogNumber::Duration, Some(Token::Name(word))) if word == "duration" => {
                self.expect("(")?;
                let text = self.text(place, name)?;
                self.expect(")")?;
                let span = syntax::duration(&text);
                let wrong =
                    || FilterError::Literal { place: at, found: format!("'{text}'"), wanted: "duration" };
                LogNumber::of_duration(span.ok_or_else(wrong)?)
            }
            (LogNumber::Duration, _) => return Err(FilterError::Type { place, name, kind: "a duration" }),
            (_, Some(Token::Number(number))) => number,
            _ => return Err(FilterError::Type { place, name, kind: "a number" }),
        };
        Ok(LogFilter::Number(attribute, comparison, value))
    }

    fn comparison(&mut self) -> Result<Comparison, FilterError> {
        let found = COMPARISONS.iter().find(|(sign, _)| self.peek() == Some(&Token::Sign(sign)));
        let (_, comparison) = found.ok_or_else(|| self.missing("a comparison"))?;
        self.next += 1;
        Ok(*comparison)
    }

    fn text(&mut self, place: usize, name: String) -> Result<String, FilterError> {
        let Some(Token::Text(text)) = self.peek().cloned() else {
            return Err(FilterError::Type { place, name, kind: "a text" });
        };
        self.next += 1;
        Ok(text)
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.next += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), FilterError> {
        if self.takes(sign) { Ok(()) } else { Err(self.missing(sign)) }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(place, _)| *place)
    }

    fn missing(&self, wanted: &'static str) -> FilterError {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Name(name)) => name.clone(),
            Some(Token::Number(number)) => number.to_string(),
            Some(Token::Text(text)) => format!("'{text}'"),
            Some(Token::Sign(sign)) => (*sign).to_owned(),
        };
        FilterError::Missing { place: self.place(), wanted, found }
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = characters.get(at) {
        let place = at + 1;
        let run = |from: usize, of: fn(char) -> bool| {
            characters[from..].iter().take_while(|c| of(**c)).collect::<String>()
        };
        let token = if first.is_whitespace() {
            at += 1;
            continue;
        } else if first.is_ascii_digit() {
            let digits = run(at, |c| c.is_ascii_alphanumeric() || c == '.');
            at += digits.chars().count();
            let wrong = || FilterError::Literal { place, found: digits.clone(), wanted: "whole number" };
            Token::Number(digits.parse().map_err(|_| wrong())?)
        } else if first.is_ascii_alphabetic() {
            let name = run(at, |c| c.is_ascii_alphanumeric() || "._".contains(c));
            at += name.chars().count();
            Token::Name(name)
        } else if first == '\'' || first == '"' {
            let inner: String = characters[at + 1..].iter().take_while(|c| **c != first).collect();
            let length = inner.chars().count();
            if characters.get(at + 1 + length) != Some(&first) || inner.contains('\\') {
                return Err(FilterError::Literal {
                    place,
                    found: format!("{first}{inner}"),
                    wanted: "plain text",
                });
            }
            at += length + 2;
            Token::Text(inner)
        } else {
            let rest: String = characters[at..].iter().take(2).collect();
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or(FilterError::Character { place, found: first.to_string() })?;
            at += sign.len();
            Token::Sign(sign)
        };
        tokens.push((place, token));
    }
    Ok(tokens)
}

fn kind_of(attribute: LogNumber) -> &'static str {
    if attribute == LogNumber::Duration { "a duration" } else { "a number" }
}

/// Longer ones first.
const SIGNS: [&str; 11] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")"];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

const METHODS: [(&str, TextTest); 3] = [
    ("startsWith", TextTest::StartsWith),
    ("endsWith", TextTest::EndsWith),
    ("contains", TextTest::Contains),
];

const NUMBERS: [(&str, LogNumber); 5] = [
    ("response.code", LogNumber::ResponseCode),
    ("response.grpc_status", LogNumber::GrpcStatus),
    ("response.duration", LogNumber::Duration),
    ("request.size", LogNumber::RequestSize),
    ("response.size", LogNumber::ResponseSize),
];

const TEXTS: [(&str, LogText); 9] = [
    ("request.method", LogText::Method),
    ("request.path", LogText::Path),
    ("request.host", LogText::Host),
    ("response.flags", LogText::Flags),
    ("response.reason", LogText::Reason),
    ("source.namespace", LogText::SourceNamespace),
    ("source.workload", LogText::SourceWorkload),
    ("destination.namespace", LogText::DestinationNamespace),
    ("destination.service", LogText::DestinationService),
];

/// How deep conditions may stand in each other: each level is a call.
const MOST_NESTED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(filter: &str, code: u64, micros: u64, path: &'static str) -> bool {
        let number = |attribute| if attribute == LogNumber::Duration { micros } else { code };
        parse(filter).unwrap().holds(&number, &|_| path)
    }

    #[test]
    fn the_example_of_the_documentation_reads_as_it_says() {
        let filter = "response.code >= 500 || response.duration > duration('1s')";
        assert!(holds(filter, 500, 0, ""));
        assert!(holds(filter, 200, 1_000_001, ""));
        assert!(!holds(filter, 499, 1_000_000, ""));
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closer_than_both() {
        let filter = "request.path == '/a' || request.path.startsWith('/b') && !(response.code < 400)";
        for (path, code, kept) in
            [("/a", 200, true), ("/b/c", 200, false), ("/b/c", 404, true), ("/c", 500, false)]
        {
            assert_eq!(holds(filter, code, 0, path), kept, "{path} {code}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place_and_a_remedy() {
        for (filter, message, remedy) in [
            ("response.code >= ", "at 1: response.code is a number", "compare it with a number"),
            ("response.duration > 1", "at 1: response.duration is a duration", "duration('1s')"),
            ("response.duration > duration('soon')", "at 21: 'soon' is no duration", "response.code >= 500"),
            ("response.time > 1", "at 1: there is no attribute response.time", "response.duration"),
            ("request.path > '/a'", "at 1: request.path is a text", "startsWith"),
            ("response.code.contains('5')", "at 1: response.code is a number", "=="),
            (
                "response.code == 500 response.code == 1",
                "at 22: && or || is missing before response.code",
                "&&",
            ),
            ("(response.code == 500", "at 22: ) is missing before the end", "&&"),
            ("response.code == 5 + 1", "at 20: + means nothing here", "&&"),
            ("request.path == '/a", "at 17: '/a is no plain text", "&&"),
            ("", "at 1: an attribute is missing before the end", "&&"),
        ] {
            let error = parse(filter).unwrap_err();
            assert!(error.to_string().starts_with(message), "{filter}: {error}");
            assert!(error.remedy().contains(remedy), "{filter}: {}", error.remedy());
        }
        let deep = format!("{}response.code == 1{}", "(".repeat(60), ")".repeat(60));
        assert!(matches!(parse(&deep), Err(FilterError::Nested { .. })));
    }
}

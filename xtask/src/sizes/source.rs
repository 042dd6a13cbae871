//! A Rust file as far as its length goes: lines up to its tests, and its functions.

/// What was counted in a file.
pub(crate) struct Source {
    /// Lines before the tests.
    pub(crate) lines: usize,
    pub(crate) functions: Vec<Function>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where it begins, from 1.
    pub(crate) line: usize,
    /// From `fn` to its closing brace.
    pub(crate) lines: usize,
}

impl Source {
    /// Counts; text in comments and literals is not taken for code.
    pub(crate) fn read(text: &str) -> Self {
        let code = blank(text);
        let tests = tests_start(&code);
        let functions = functions(&code).into_iter().filter(|function| function.line <= tests).collect();
        Self { lines: tests, functions }
    }
}

/// The number of lines before `#[cfg(test)] mod tests { ... }`; `#[cfg(test)] mod tests;` may stand anywhere.
fn tests_start(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_start = |index: &usize| {
        let after = lines[index + 1..].iter().find(|line| !line.is_empty() && !line.starts_with('#'));
        lines[*index].starts_with("#[cfg(test)]") && after.is_some_and(|line| !line.ends_with(';'))
    };
    (0..lines.len()).find(is_start).unwrap_or(lines.len())
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let before = code[..start].chars().next_back();
        let name: String =
            code[start + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(end) = body_end(&code[start..]) else { continue };
        let line = 1 + code[..start].matches('\n').count();
        let lines = 1 + code[start..start + end].matches('\n').count();
        found.push(Function { name, line, lines });
    }
    found
}

/// Where the body that follows a signature ends; none for a declaration.
fn body_end(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        if c == '}' && braces == 0 && brackets == 0 {
            return Some(at);
        }
    }
    None
}

/// The text with comments and the inside of literals as blanks; line ends stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = comment(rest).or_else(|| raw_string(rest, &code)).or_else(|| quoted(rest));
        let Some(length) = skip else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.starts_with("/*").then(|| rest.find("*/").map_or(rest.len(), |end| end + 2))
}

/// `r"..."`, `r#"..."#`, also after `b` or `c`; not the end of a longer word.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    let body = rest.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let last = before.chars().next_back().unwrap_or(' ');
    let in_word = (last.is_alphanumeric() && last != 'b' && last != 'c') || last == '_';
    if in_word || !body[hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let inside = &body[hashes + 1..];
    let end = inside.find(&close).map_or(inside.len(), |end| end + close.len());
    Some(1 + hashes + 1 + end)
}

/// A string, or a char that is not a lifetime.
fn quoted(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = rest.char_indices().skip(1);
    if quote == '\'' {
        let mut ahead = rest.chars().skip(1);
        let (first, second) = (ahead.next()?, ahead.next()?);
        if first != '\\' && second != '\'' {
            return None;
        }
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::{Function, Source};

    fn function(name: &str, line: usize, lines: usize) -> Function {
        Function { name: name.to_owned(), line, lines }
    }

    #[test]
    fn lines_end_at_the_tests() {
        let source = Source::read("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n");
        assert_eq!((source.lines, source.functions), (2, vec![function("a", 1, 1)]));
    }

    #[test]
    fn tests_in_a_file_of_their_own_end_nothing() {
        let source = Source::read("mod a;\n#[cfg(test)]\nmod tests;\n\nfn a() {\n}\n");
        assert_eq!((source.lines, source.functions), (6, vec![function("a", 5, 2)]));
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let text = "impl A {\n    pub fn a(x: [u8; 2]) -> Result<(), E>\n    where\n        E: X,\n    {\n        if x { y }\n    }\n}\n";
        assert_eq!(Source::read(text).functions, [function("a", 2, 6)]);
    }

    #[test]
    fn a_declaration_has_no_length() {
        assert_eq!(
            Source::read("trait A {\n    fn a(&self);\n    fn b(&self) {\n    }\n}\n").functions,
            [function("b", 3, 2)]
        );
    }

    #[test]
    fn braces_in_text_and_comments_are_not_code() {
        let text = "fn a() {\n    let s = \"}\\\"\"; // }\n    let c = '}';\n    let r = r#\"}\"}\"#; /* } */\n    let l: &'static str = s;\n}\n";
        assert_eq!(Source::read(text).functions, [function("a", 1, 6)]);
    }
}

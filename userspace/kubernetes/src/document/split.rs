//! Where one document of a file ends and the next begins.

/// One document of a file, as text.
pub(crate) struct Text<'a> {
    /// Its text, with its `---` line.
    pub(crate) text: &'a str,
    /// The line of the file that `text` begins at, from 1.
    pub(crate) first_line: u32,
}

/// Splits a file at its `---` lines. YAML forbids such a line anywhere else, so this needs no parser.
pub(crate) fn documents(file: &str) -> Vec<Text<'_>> {
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    // Comments and `%` directives before the first `---` belong to the document that it opens.
    let mut content = false;
    let (mut at, mut line) = (0, 1);
    for text in file.split_inclusive('\n') {
        if opens_document(text) {
            if content {
                documents.push(Text { text: &file[start..at], first_line });
                (start, first_line) = (at, line);
            }
            content = true;
        } else if !content {
            let text = text.trim_ascii();
            content = !(text.is_empty() || text.starts_with(['#', '%']));
        }
        at += text.len();
        line += 1;
    }
    if content {
        documents.push(Text { text: &file[start..], first_line });
    }
    documents
}

fn opens_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::documents;

    fn split(text: &str) -> Vec<(&str, u32)> {
        documents(text).iter().map(|d| (d.text, d.first_line)).collect()
    }

    #[test]
    fn every_document_knows_the_line_it_begins_at() {
        assert_eq!(split("a: 1\n---\nb: 2\n"), [("a: 1\n", 1), ("---\nb: 2\n", 2)]);
        assert_eq!(split("--- # one\na: 1\n---\nb: 2"), [("--- # one\na: 1\n", 1), ("---\nb: 2", 3)]);
    }

    #[test]
    fn comments_and_directives_belong_to_the_first_document() {
        assert_eq!(split("# x\n%YAML 1.2\n---\na: 1\n"), [("# x\n%YAML 1.2\n---\na: 1\n", 1)]);
        assert!(split("\n# nothing\n").is_empty());
    }

    #[test]
    fn dashes_inside_a_document_do_not_end_it() {
        assert_eq!(split("a: |\n  ---\nb: ----\n---x\n").len(), 1);
    }
}

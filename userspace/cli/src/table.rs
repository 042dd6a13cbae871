//! Tables as kubectl's: upper-case headings, two spaces between, no lines.
//!
//! A column is as wide as its widest cell. Where the screen is too narrow, extra columns are left out
//! first, then prose is folded between words; a name is never broken. Into a pipe all is shown, each row
//! on one line.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets::NOTHING};

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column of a [`Table`].
pub(crate) struct Column {
    heading: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Folding,
    Extra,
}

impl Column {
    /// Its cells are never broken: names, addresses.
    pub(crate) fn whole(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), kind: Kind::Whole }
    }

    /// Its cells are numbers: aligned to the right.
    pub(crate) fn number(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), kind: Kind::Number }
    }

    /// Its cells may be folded between words: lists, prose.
    pub(crate) fn folding(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), kind: Kind::Folding }
    }

    /// Shown only where everything has room.
    pub(crate) fn extra(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), kind: Kind::Extra }
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into());
    }

    /// As [`Table::row`], for a number of columns that is not known beforehand.
    pub(crate) fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    /// Puts a column before all others: a cell for each row.
    pub(crate) fn lead(&mut self, heading: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        self.columns.insert(0, Column::whole(heading));
        let mut cells = cells.into_iter();
        for row in &mut self.rows {
            row.insert(0, cells.next().expect("there is a cell for each row"));
        }
    }

    /// The text, each line ended; lines of at most `width`, as far as names allow.
    pub(crate) fn render(&self, width: Option<u16>) -> String {
        let shown = self.shown(width);
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_header(shown.iter().map(|&index| &self.columns[index].heading));
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        table.add_rows(self.rows.iter().map(|row| shown.iter().map(|&index| &row[index])));
        for (&index, column) in shown.iter().zip(table.column_iter_mut()) {
            let last = shown.last() == Some(&index);
            let padding = if last { 0 } else { BETWEEN };
            column.set_padding((0, padding)).set_constraint(match self.columns[index].kind {
                Kind::Folding => {
                    let word = self.widest(index, |cell| cell.split(' ').map(chars).max());
                    ColumnConstraint::LowerBoundary(Width::Fixed(word + padding))
                }
                Kind::Whole | Kind::Number | Kind::Extra => ColumnConstraint::ContentWidth,
            });
            if self.columns[index].kind == Kind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    /// The columns that are shown: from the right, extra ones make room.
    fn shown(&self, width: Option<u16>) -> Vec<usize> {
        let mut shown: Vec<_> = (0..self.columns.len()).collect();
        let Some(width) = width else { return shown };
        let unfolded = |shown: &[usize]| {
            shown.iter().map(|&index| self.widest(index, |cell| Some(chars(cell))) + BETWEEN).sum::<u16>()
        };
        while unfolded(&shown) > width + BETWEEN {
            let Some(extra) = shown.iter().rposition(|&index| self.columns[index].kind == Kind::Extra) else {
                break;
            };
            shown.remove(extra);
        }
        shown
    }

    fn widest(&self, column: usize, measure: impl Fn(&str) -> Option<u16>) -> u16 {
        let cells = self.rows.iter().map(|row| &row[column]).chain([&self.columns[column].heading]);
        cells.filter_map(|cell| measure(cell)).max().unwrap_or_default()
    }
}

fn chars(text: &str) -> u16 {
    text.chars().count().try_into().unwrap_or(u16::MAX / 64)
}

/// Spaces between two columns.
const BETWEEN: u16 = 2;

#[cfg(test)]
mod tests {
    use super::{Column, Table};

    fn table() -> Table {
        let mut table = Table::new([
            Column::whole("NAME"),
            Column::number("ENTRIES"),
            Column::extra("PLACE"),
            Column::folding("REMEDY"),
        ]);
        table.row([
            "shop/web".into(),
            "7".into(),
            "/run/netns/web".into(),
            "give it a shorter name and try again".into(),
        ]);
        table.row(["a".into(), "1234567890".into(), "/".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() {
        let expected = "\
NAME         ENTRIES  PLACE           REMEDY
shop/web           7  /run/netns/web  give it a shorter name and try again
a         1234567890  /               -
";
        assert_eq!(table().render(None), expected);
        assert_eq!(table().render(Some(160)), expected);
        assert_eq!(table().render(Some(74)), expected, "it just fits");
    }

    #[test]
    fn on_a_narrow_screen_an_extra_column_makes_room() {
        let expected = "\
NAME         ENTRIES  REMEDY
shop/web           7  give it a shorter name and try again
a         1234567890  -
";
        assert_eq!(table().render(Some(73)), expected);
    }

    #[test]
    fn on_a_narrower_one_prose_is_folded_between_words() {
        let expected = "\
NAME         ENTRIES  REMEDY
shop/web           7  give it a
                      shorter name
                      and try again
a         1234567890  -
";
        assert_eq!(table().render(Some(36)), expected);
    }

    #[test]
    fn names_and_words_stay_whole_where_even_they_do_not_fit() {
        let text = table().render(Some(12));
        for whole in ["shop/web", "1234567890", "shorter"] {
            assert!(text.contains(whole), "{text}");
        }
    }
}

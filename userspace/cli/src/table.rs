//! Tables as kubectl's: upper-case headings, two spaces between, no lines.
//!
//! A column is as wide as its widest cell. Where the screen is too narrow, the columns that may be
//! folded are; into a pipe nothing is folded, so that each row stays one line.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, presets::NOTHING};

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

    /// Its cells may be folded: lists, prose.
    pub(crate) fn folding(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), kind: Kind::Folding }
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

    /// The text, each line ended; lines of at most `width`, as far as whole columns allow.
    pub(crate) fn render(&self, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_header(self.columns.iter().map(|column| &column.heading));
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        table.add_rows(&self.rows);
        let last = self.columns.len().saturating_sub(1);
        for (index, (column, shown)) in self.columns.iter().zip(table.column_iter_mut()).enumerate() {
            shown.set_padding((0, if index == last { 0 } else { 2 }));
            if column.kind != Kind::Folding {
                shown.set_constraint(ColumnConstraint::ContentWidth);
            }
            if column.kind == Kind::Number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Table};

    fn table() -> Table {
        let mut table =
            Table::new([Column::whole("NAME"), Column::number("ENTRIES"), Column::folding("REMEDY")]);
        table.row(["shop/web".into(), "7".into(), "give it a shorter name and try again".into()]);
        table.row(["a".into(), "1234567890".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() {
        let expected = "\
NAME         ENTRIES  REMEDY
shop/web           7  give it a shorter name and try again
a         1234567890  -
";
        assert_eq!(table().render(None), expected);
        assert_eq!(table().render(Some(160)), expected);
    }

    #[test]
    fn on_a_narrow_screen_only_folding_columns_are_folded() {
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
    fn names_stay_whole_where_even_they_do_not_fit() {
        let text = table().render(Some(12));
        assert!(text.contains("shop/web") && text.contains("1234567890"), "{text}");
    }
}

//! Bars as SVG: text that a browser draws, so that no drawing library is needed.

use std::fmt::Write as _;

use super::path::Path;
use super::table::Row;

/// A group of bars for each row; the longest bar of a row is as wide as the plot.
pub(super) fn bars(caption: &str, rows: &[Row]) -> String {
    let bars: usize = rows.iter().map(|row| row.figures.len()).sum();
    let height = TOP + bars * STEP + rows.len() * GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 18, "", caption);
    let mut y = TOP;
    for row in rows {
        text(&mut svg, LEFT, y, " font-weight=\"bold\"", &row.case);
        let longest = row.figures.values().copied().fold(0.0, f64::max);
        for (path, figure) in &row.figures {
            y += STEP;
            let length = if longest > 0.0 { figure / longest * BAR } else { 0.0 };
            text(&mut svg, LEFT, y, "", path.name());
            let _ = writeln!(
                svg,
                "<rect x=\"{START}\" y=\"{}\" width=\"{length:.1}\" height=\"12\" fill=\"{}\"/>",
                y - 10,
                colour(*path)
            );
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{y}\">{}</text>",
                START + length + 6.0,
                row.unit.show(*figure)
            );
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: usize, y: usize, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{style}>{words}</text>");
}

fn colour(path: Path) -> &'static str {
    match path {
        Path::NoMesh => "#9aa5b1",
        Path::Weft => "#0b7285",
        Path::Envoy => "#ae3ec9",
        Path::EnvoyTwice => "#da77f2",
        Path::Nginx => "#2f9e44",
    }
}

const WIDTH: usize = 900;
const LEFT: usize = 12;
const TOP: usize = 48;
const STEP: usize = 16;
/// Between two groups.
const GAP: usize = 32;
/// Where bars begin, and how long they are.
const START: f64 = 110.0;
const BAR: f64 = 660.0;

#[cfg(test)]
mod tests {
    use super::{Row, bars};
    use crate::l7::path::Path;
    use crate::l7::table::Unit;
    use crate::rounds::Series;

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_longest() {
        let series = [(Path::NoMesh, 200.0), (Path::Weft, 100.0)];
        let series = series.map(|(path, figure)| (path, Series::new(vec![figure])));
        let svg = bars("a & b", &[Row::new("c<32", Unit::PerSecond, series.into())]);
        assert!(svg.contains("width=\"660.0\"") && svg.contains("width=\"330.0\""), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("c&lt;32"), "{svg}");
    }
}

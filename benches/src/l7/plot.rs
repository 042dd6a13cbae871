//! Bars as SVG: text that a browser draws, so that no drawing library is needed.

use std::fmt::Write as _;

/// Bars that stand together.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One figure.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) figure: f64,
    /// The figure with its unit.
    pub(crate) shown: String,
}

/// A group of bars for each row; the longest bar of a row is as wide as the plot.
pub(crate) fn bars(caption: &str, groups: &[Group]) -> String {
    let bars: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + bars * STEP + groups.len() * GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 18, "", caption);
    let mut y = TOP;
    for group in groups {
        text(&mut svg, LEFT, y, " font-weight=\"bold\"", &group.title);
        let longest = group.bars.iter().map(|bar| bar.figure).fold(0.0, f64::max);
        for bar in &group.bars {
            y += STEP;
            let length = if longest > 0.0 { bar.figure / longest * BAR } else { 0.0 };
            text(&mut svg, LEFT, y, "", bar.name);
            let _ = writeln!(
                svg,
                "<rect x=\"{START}\" y=\"{}\" width=\"{length:.1}\" height=\"12\" fill=\"{}\"/>",
                y - 10,
                bar.colour
            );
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{y}\">{}</text>", START + length + 6.0, bar.shown);
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: usize, y: usize, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{style}>{words}</text>");
}

/// The colour of what goes without a mesh, and of weft's.
pub(crate) const NO_MESH: &str = "#9aa5b1";
pub(crate) const WEFT: &str = "#0b7285";
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
    use super::{Bar, Group, NO_MESH, bars};

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_longest() {
        let bar = |figure| Bar { name: "x", colour: NO_MESH, figure, shown: figure.to_string() };
        let svg = bars("a & b", &[Group { title: "c<32".into(), bars: vec![bar(200.0), bar(100.0)] }]);
        assert!(svg.contains("width=\"660.0\"") && svg.contains("width=\"330.0\""), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("c&lt;32"), "{svg}");
    }
}

//! What agents tell controllers of another release, and are answered.

#[path = "../../../tests/releases/release.rs"]
mod release;

use weft_model::{Content, Report, ReportAnswer};

#[test]
fn reports_and_answers_of_another_release_are_the_same_ones() {
    let generations = || [("TrafficPolicy shop/web".into(), 3)].into_iter();
    let report =
        |content| Report { digest: "d1".to_owned(), content, failure: Some("a map is full".to_owned()) };
    let reports = vec![
        report(Content::Named),
        report(Content::Changed {
            since: "d0".to_owned(),
            changes: generations().map(|(name, generation)| (name, Some(generation))).collect(),
        }),
        report(Content::Whole { generations: generations().collect() }),
    ];
    // Which content it is, its only key says.
    release::agrees("reports.json", &reports, &["changes", "generations", "content"]);
    release::agrees(
        "report-answers.json",
        &vec![ReportAnswer { known: true }, ReportAnswer { known: false }],
        &[],
    );
}

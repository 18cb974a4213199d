//! The small sizes run, whatever time they take.

use benches::cases::{self, Size};
use benches::{language, measure};

#[test]
fn privileged_every_case_runs() {
    tests::require_root!();
    let mut cases = cases::all(Size::Small);
    let found = measure::interleaved(&mut cases, 2);
    let table = measure::table(Size::Small, &found);
    for measurement in &found {
        assert_eq!(measurement.times.len(), 2, "{table}");
    }
    assert_eq!(table.lines().count(), 2 + found.len());
}

#[test]
fn dockerfiles_of_every_shape_are_read() {
    let mut cases = language::cases(Size::Small);
    let found = measure::interleaved(&mut cases, 2);
    assert!(found.iter().all(|m| m.times.len() == 2 && m.target.is_some()));
}

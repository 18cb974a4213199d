//! The small sizes run, whatever time they take.

use benches::cases::{self, Size};
use benches::measure;

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

//! Which step of the last build each step is. Pure.

use super::note::Note;

/// The table of a longest common subsequence has at most this many cells; longer lists are
/// aligned from both ends only.
const MAX_CELLS: usize = 4_000_000;

/// For each of `new` the position in `old` of the step that it was. Steps of the same text belong
/// together in the order in which they stand; between two such pairs, steps of the same
/// instruction do.
pub(super) fn align(old: &[Note], new: &[Note]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; new.len()];
    // Contexts and images are on their own: where they stand among the steps says nothing.
    for sources in [false, true] {
        let of = |all: &[Note]| -> Vec<usize> {
            (0..all.len()).filter(|at| (all[*at].kind == "source") == sources).collect()
        };
        let (from, to) = (of(old), of(new));
        let were: Vec<&Note> = from.iter().map(|at| &old[*at]).collect();
        let are: Vec<&Note> = to.iter().map(|at| &new[*at]).collect();
        for (at, pair) in align_list(&were, &are).into_iter().enumerate() {
            pairs[to[at]] = pair.map(|pair| from[pair]);
        }
    }
    pairs
}

/// The same, of lists in which all may take the place of each other.
fn align_list(old: &[&Note], new: &[&Note]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; new.len()];
    let same = |o: usize, n: usize| same_text(old[o], new[n]);
    let ends = old.len().min(new.len());
    let head = (0..ends).take_while(|at| same(*at, *at)).count();
    let tail =
        (1..=ends - head).take_while(|back| same(old.len() - back, new.len() - back)).count();
    (0..head).for_each(|at| pairs[at] = Some(at));
    (1..=tail).for_each(|back| pairs[new.len() - back] = Some(old.len() - back));
    let (rows, columns) = (old.len() - head - tail, new.len() - head - tail);
    if rows.saturating_mul(columns) <= MAX_CELLS {
        for (o, n) in common(rows, columns, |o, n| same(head + o, head + n)) {
            pairs[head + n] = Some(head + o);
        }
    }
    fill_gaps(old, new, &mut pairs);
    fill_moved(old, new, &mut pairs);
    pairs
}

/// A longest common subsequence of two lists, as pairs of positions.
fn common(rows: usize, columns: usize, same: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let width = columns + 1;
    let mut lengths = vec![0u32; (rows + 1) * width];
    for o in (0..rows).rev() {
        for n in (0..columns).rev() {
            let at = |o: usize, n: usize| lengths[o * width + n];
            lengths[o * width + n] = match same(o, n) {
                true => at(o + 1, n + 1) + 1,
                false => at(o + 1, n).max(at(o, n + 1)),
            };
        }
    }
    let (mut o, mut n) = (0, 0);
    let mut pairs = Vec::new();
    while o < rows && n < columns {
        if same(o, n) {
            pairs.push((o, n));
            (o, n) = (o + 1, n + 1);
        } else if lengths[(o + 1) * width + n] >= lengths[o * width + n + 1] {
            o += 1;
        } else {
            n += 1;
        }
    }
    pairs
}

/// Between two pairs, the first unpaired step of an instruction is the first unpaired one of the
/// same instruction.
fn fill_gaps(old: &[&Note], new: &[&Note], pairs: &mut [Option<usize>]) {
    let mut start = 0;
    let mut from = 0;
    while start < new.len() {
        if let Some(at) = pairs[start] {
            from = at + 1;
            start += 1;
            continue;
        }
        let end = (start..new.len()).find(|n| pairs[*n].is_some()).unwrap_or(new.len());
        let to = pairs.get(end).copied().flatten().unwrap_or(old.len());
        let mut free: Vec<usize> = (from..to.max(from)).collect();
        for n in start..end {
            if let Some(at) = free.iter().position(|o| same_instruction(old[*o], new[n])) {
                pairs[n] = Some(free.remove(at));
            }
        }
        start = end;
    }
}

/// A step that stands elsewhere now is still the same one, if its text is.
fn fill_moved(old: &[&Note], new: &[&Note], pairs: &mut [Option<usize>]) {
    let mut free = vec![true; old.len()];
    pairs.iter().flatten().for_each(|at| free[*at] = false);
    for n in 0..new.len() {
        if pairs[n].is_none()
            && let Some(o) = (0..old.len()).find(|o| free[*o] && same_text(old[*o], new[n]))
        {
            free[o] = false;
            pairs[n] = Some(o);
        }
    }
}

fn same_text(old: &Note, new: &Note) -> bool {
    old.kind == new.kind && old.text == new.text && old.body == new.body
}

fn same_instruction(old: &Note, new: &Note) -> bool {
    let word = |note: &Note| note.text.split_whitespace().next().map(str::to_ascii_uppercase);
    old.kind == new.kind && old.stage == new.stage && word(old) == word(new)
}

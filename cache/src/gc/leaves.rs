//! The order in which items can go: what needs another before that. Pure.

use std::collections::{BinaryHeap, HashMap};

use super::plan::Plan;
use super::{Item, ItemId};

/// Has items go until `enough` says so: of those that `may_go`, and that nothing needs which is
/// still there, always the one of the greatest rank. Each one that goes may make what it needs the
/// next.
pub(super) fn take<R: Ord>(
    items: &[Item],
    may_go: impl Fn(&Item) -> bool,
    rank: impl Fn(&Item) -> R,
    enough: impl Fn(&Plan) -> bool,
) -> Plan {
    let by_id: HashMap<&str, usize> =
        items.iter().enumerate().filter_map(|(at, item)| Some((snapshot(item)?, at))).collect();
    let needs = |item: &Item| -> Vec<usize> {
        item.needs().filter_map(|id| by_id.get(id).copied()).collect()
    };
    let mut needed_by = vec![0usize; items.len()];
    for at in items.iter().flat_map(needs) {
        needed_by[at] += 1;
    }
    let candidate = |at: usize| may_go(&items[at]).then(|| (rank(&items[at]), at));
    let unneeded = (0..items.len()).filter(|&at| needed_by[at] == 0);
    let mut leaves: BinaryHeap<(R, usize)> = unneeded.filter_map(candidate).collect();
    let mut plan = Plan { kept: items.iter().map(|item| item.size).sum(), ..Plan::default() };
    while !enough(&plan) {
        let Some((_, at)) = leaves.pop() else { break };
        let item = &items[at];
        plan.freed += item.size;
        plan.kept -= item.size;
        plan.victims.push(item.clone());
        for at in needs(item) {
            needed_by[at] -= 1;
            if needed_by[at] == 0 {
                leaves.extend(candidate(at));
            }
        }
    }
    plan
}

fn snapshot(item: &Item) -> Option<&str> {
    match &item.id {
        ItemId::Snapshot(id) => Some(id),
        _ => None,
    }
}

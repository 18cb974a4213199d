//! `cargo run --release -p benches [-- --small] [--PART]… [--rounds N]`: prints the table. The parts
//! are `builds`, `files` (of contexts), `chain` (of steps), `records`, `steps` (starting one),
//! `many` (builds at once) and `language`; all of them, if none is named.

use benches::cases::Size;
use benches::measure;
use benches::part::{PARTS, Part};

/// Rounds, unless others are asked for.
const ROUNDS: usize = 9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let size = if has("--small") { Size::Small } else { Size::Large };
    let rounds =
        args.iter().position(|a| a == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let all = !PARTS.iter().any(|(flag, _)| has(flag));
    let asked = PARTS.iter().filter(|(flag, _)| all || has(flag));
    let mut parts: Vec<Part> = asked.map(|(_, make)| make(size)).collect();
    let rounds = rounds.unwrap_or(ROUNDS);
    let found = measure::interleaved(&mut parts, rounds);
    print!("{}", measure::table(size, rounds, &parts, &found));
}

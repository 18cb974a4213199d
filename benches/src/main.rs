//! `cargo run --release -p benches [-- --small] [--language | --steps] [--rounds
//! N]`: prints the table, of the Dockerfile language or of starting steps alone if asked to.

use benches::cases::{self, Size};
use benches::{language, measure, steps};

/// Rounds, unless others are asked for.
const ROUNDS: usize = 9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = if args.iter().any(|a| a == "--small") { Size::Small } else { Size::Large };
    let rounds =
        args.iter().position(|a| a == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let mut cases = match (has("--language"), has("--steps")) {
        (true, _) => language::cases(size),
        (_, true) => steps::cases(size),
        _ => cases::all(size),
    };
    print!("{}", measure::table(size, &measure::interleaved(&mut cases, rounds.unwrap_or(ROUNDS))));
}

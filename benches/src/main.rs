//! `cargo run --release -p benches [-- --small] [--PART] [--rounds N]`: prints the table. A part is
//! one of `language`, `steps` (starting them), `chain` (of steps), `files` (of contexts) and
//! `records`.

use benches::cases::{self, Size};
use benches::{chain, files, language, measure, records, steps};

/// Rounds, unless others are asked for.
const ROUNDS: usize = 9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = if args.iter().any(|a| a == "--small") { Size::Small } else { Size::Large };
    let rounds =
        args.iter().position(|a| a == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let parts = [
        ("--language", language::cases as fn(Size) -> Vec<Box<dyn cases::Case>>),
        ("--steps", steps::cases),
        ("--chain", chain::cases),
        ("--files", files::cases),
        ("--records", records::cases),
    ];
    let part =
        parts.into_iter().find(|(flag, _)| has(flag)).map_or(cases::all as _, |(_, part)| part);
    let mut cases = part(size);
    print!("{}", measure::table(size, &measure::interleaved(&mut cases, rounds.unwrap_or(ROUNDS))));
}

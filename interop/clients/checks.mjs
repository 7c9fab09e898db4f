// Tells a harness what was seen: one line a check, `ok - …` or `not ok - …`, and an exit code.
let failed = 0;

/** Says whether one thing holds, and what was seen instead if not. */
export function check(sentence, holds, seen = '') {
  if (!holds) failed += 1;
  console.log(holds ? `ok - ${sentence}` : `not ok - ${sentence}: saw ${JSON.stringify(seen)}`);
}

/** Ends the process with the exit code that the checks deserve. */
export function end() {
  process.exit(failed ? 1 : 0);
}

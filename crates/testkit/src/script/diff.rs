//! A line diff by longest common subsequence.

/// Cells of the table beyond which the middle is shown as all removed, all added.
const CELLS_MAX: usize = 4_000_000;

/// Every line of both texts, prefixed with `- ` (only expected), `+ ` (only actual) or two spaces.
pub(super) fn lines(expected: &str, actual: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail =
        a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let mut out = String::new();
    let mut push = |sign: &str, line: &str| out.extend([sign, line, "\n"]);
    a[..head].iter().for_each(|line| push("  ", line));
    for (sign, line) in middle(&a[head..a.len() - tail], &b[head..b.len() - tail]) {
        push(sign, line);
    }
    a[a.len() - tail..].iter().for_each(|line| push("  ", line));
    out
}

fn middle<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(&'static str, &'a str)> {
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > CELLS_MAX {
        return a
            .iter()
            .map(|line| ("- ", *line))
            .chain(b.iter().map(|line| ("+ ", *line)))
            .collect();
    }
    // common[i * width + j]: length of the longest common subsequence of a[i..] and b[j..].
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push(("  ", a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len()
            || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            out.push(("- ", a[i]));
            i += 1;
        } else {
            out.push(("+ ", b[j]));
            j += 1;
        }
    }
    out
}

//! SVG as text: shapes in millimetres, with every word escaped and every colour in one place.

use std::fmt::Write as _;

/// Colours by class, for paper, and for screens that are dark.
const STYLE: &str = "
text{font-family:Inter,'Helvetica Neue',Arial,sans-serif;font-size:3px;fill:#1f2430}
.back{fill:#fff}.title{font-size:5px;font-weight:600}.name{font-size:3.6px;font-weight:600}.muted{fill:#667085}.small{font-size:2.5px}
.paper{fill:#fffaf8}.fine{stroke:#f8dad5;stroke-width:.1}.bold{stroke:#efb0a8;stroke-width:.2}.frame{fill:none;stroke:#efb0a8;stroke-width:.2}
.plain{fill:#fbfbfd}.rule{stroke:#e3e6ec;stroke-width:.15}.axis{stroke:#98a2b3;stroke-width:.2}
.trace{fill:none;stroke-width:.32;stroke-linejoin:round;stroke-linecap:round}
.ecg{stroke:#101828}.pleth{stroke:#0b6bb5}.resp{stroke:#4d7c0f}.pressure{stroke:#b42318}.pulse{fill:none;stroke:#101828;stroke-width:.3}
.dot-ecg{fill:#101828}.dot-pleth{fill:#0b6bb5}.dot-resp{fill:#4d7c0f}
.N{fill:#98a2b3}.Q{fill:#98a2b3}.V{fill:#c1121f;font-weight:700}.beat-V{fill:#c1121f;fill-opacity:.1}.tick-N,.tick-Q{stroke:#98a2b3;stroke-width:.2}.tick-V{stroke:#c1121f;stroke-width:.35}
.here{fill:#3b82f6;fill-opacity:.14}
.high{fill:#d92d20}.medium{fill:#eab308}.low{fill:#0e9bb5}.none{fill:#98a2b3}.band{fill-opacity:.16}
@media (prefers-color-scheme:dark){
text{fill:#e7e9ee}.back{fill:#0f1216}.muted{fill:#98a2b3}
.paper{fill:#1a1415}.fine{stroke:#33201f}.bold{stroke:#5c312e}.frame{stroke:#5c312e}.plain{fill:#14181d}.rule{stroke:#262c35}.axis{stroke:#667085}
.ecg,.pulse{stroke:#f2f4f7}.pleth{stroke:#5bb4ff}.resp{stroke:#b5e05c}.pressure{stroke:#ff8f87}
.dot-ecg{fill:#f2f4f7}.dot-pleth{fill:#5bb4ff}.dot-resp{fill:#b5e05c}
.V{fill:#ff7a72}.beat-V{fill:#ff7a72;fill-opacity:.18}.tick-V{stroke:#ff7a72}.here{fill:#60a5fa;fill-opacity:.22}
.high{fill:#ff6a60}.medium{fill:#facc15}.low{fill:#38c5de}.band{fill-opacity:.24}
}";

/// Which end of a text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A place, in millimetres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct At(pub(super) f64, pub(super) f64);

/// A document that is being written.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    out: String,
}

impl Canvas {
    /// A rectangle with round corners where there is room for them.
    pub(super) fn rect(&mut self, class: &str, at: At, width: f64, height: f64) {
        let round = if class.contains("band") { " rx=\"1\"" } else { "" };
        let (x, y, width, height) = (mm(at.0), mm(at.1), mm(width.max(0.0)), mm(height.max(0.0)));
        _ = writeln!(
            self.out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{round}/>"
        );
    }

    /// A rectangle of ECG paper: its squares begin at its corner, so it stands in a group of its own.
    pub(super) fn paper(&mut self, at: At, width: f64, height: f64) {
        self.begin(at);
        self.rect("paper", At(0.0, 0.0), width, height);
        let (width, height) = (mm(width), mm(height));
        _ = writeln!(self.out, "<rect fill=\"url(#mm5)\" width=\"{width}\" height=\"{height}\"/>");
        _ = writeln!(self.out, "<rect class=\"frame\" width=\"{width}\" height=\"{height}\"/>");
        self.end();
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: At, to: At) {
        let (x1, y1, x2, y2) = (mm(from.0), mm(from.1), mm(to.0), mm(to.1));
        _ = writeln!(self.out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    /// A path by its data, cut at a clip of this name where there is one.
    pub(super) fn path(&mut self, class: &str, data: &str, clip: Option<&str>) {
        if data.is_empty() {
            return;
        }
        let clip = clip.map(|clip| format!(" clip-path=\"url(#{clip})\"")).unwrap_or_default();
        _ = writeln!(self.out, "<path class=\"{class}\" d=\"{data}\"{clip}/>");
    }

    /// A filled point.
    pub(super) fn dot(&mut self, class: &str, at: At) {
        _ = writeln!(self.out, "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\".45\"/>", mm(at.0), mm(at.1));
    }

    /// A rectangle beyond which what names it is not drawn.
    pub(super) fn clip(&mut self, name: &str, at: At, width: f64, height: f64) {
        let (x, y, width, height) = (mm(at.0), mm(at.1), mm(width), mm(height));
        _ = writeln!(
            self.out,
            "<clipPath id=\"{name}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/></clipPath>"
        );
    }

    /// Words.
    pub(super) fn text(&mut self, class: &str, at: At, anchor: Anchor, words: &str) {
        let (x, y, anchor, words) = (mm(at.0), mm(at.1), anchor.name(), escaped(words));
        _ = writeln!(self.out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{words}</text>");
    }

    /// What follows is moved, up to [`Canvas::end`].
    pub(super) fn begin(&mut self, at: At) {
        _ = writeln!(self.out, "<g transform=\"translate({} {})\">", mm(at.0), mm(at.1));
    }

    pub(super) fn end(&mut self) {
        self.out += "</g>\n";
    }

    /// The whole document, with a title and a description for whoever does not see it.
    pub(super) fn document(self, width: f64, height: f64, title: &str, description: &str) -> String {
        let (width, height, title, description) = (mm(width), mm(height), escaped(title), escaped(description));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}mm\" height=\"{height}mm\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">{title}</title>\n<desc id=\"desc\">{description}</desc>\n<style>{STYLE}</style>\n<defs>\n\
             <pattern id=\"mm1\" width=\"1\" height=\"1\" patternUnits=\"userSpaceOnUse\"><path class=\"fine\" d=\"M1 0H0V1\" fill=\"none\"/></pattern>\n\
             <pattern id=\"mm5\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\"><rect width=\"5\" height=\"5\" fill=\"url(#mm1)\"/>\
             <path class=\"bold\" d=\"M5 0H0V5\" fill=\"none\"/></pattern>\n</defs>\n\
             <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n{}</svg>\n",
            self.out
        )
    }
}

/// Millimetres to a hundredth, as short as they can be written; 0 for what is no number.
pub(super) fn mm(value: f64) -> String {
    let hundredths = if value.is_finite() { (value * 100.0).round() / 100.0 } else { 0.0 };
    // Not «-0».
    format!("{}", hundredths + 0.0)
}

/// Words as XML has them; characters that XML cannot hold are left out.
fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_text_and_nothing_else() {
        assert_eq!(
            escaped("<a href='x'>&\"\u{0}\u{1b}\u{ffff}µ</a>"),
            "&lt;a href=&apos;x&apos;&gt;&amp;&quot;µ&lt;/a&gt;"
        );
    }

    #[test]
    fn numbers_are_short_and_always_numbers() {
        let written: Vec<String> = [1.0, 0.126, -0.001, f64::NAN, f64::INFINITY, 25.5].map(mm).into();
        assert_eq!(written, ["1", "0.13", "0", "0", "0", "25.5"]);
    }
}

// Package timepage holds the programs of the page on time: what its text quotes, and the runs of the engine that its pictures show.
package timepage

import (
	"fmt"
	"html"
	"strings"
)

// Picture draws event time over processing time, both in seconds.
type Picture struct {
	Title string
	// Alt says in words what is to be seen.
	Alt string
	// Seconds is how much processing time is shown, Low and High which event time.
	Seconds, Low, High int
	// Window is the size of the windows whose bounds are drawn.
	Window int
	Dots   []Dot
	Lines  []Line
	Fires  []Fire
	Spans  []Span
	// Legend are the classes to explain, with the words for each.
	Legend []Entry
}

// Dot is a record: its class says what became of it.
type Dot struct {
	Class  string
	At     int // processing time
	Second int // event time
}

// Line is a watermark: it holds from each point on.
type Line struct {
	Class  string
	Points []Point
}

// Point is a moment of processing time, and the watermark from then on.
type Point struct{ At, Second float64 }

// Fire is a window that gave a result.
type Fire struct {
	At, End int
	Text    string
}

// Span is a stretch of processing time with a word on it.
type Span struct {
	From, To int
	Text     string
}

// Entry is a line of the legend.
type Entry struct{ Class, Text string }

const (
	width, height            = 760, 470
	left, right, top, bottom = 62, 24, 88, 46
)

// The colours of both modes; shapes differ too, so that nothing rests on colour alone.
const style = `<style>
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.small{font-size:12px;fill:#57606a}
.card{fill:#fff}.band{fill:#f3f5f8}.grid{stroke:#d0d7de;fill:none}.now{stroke:#8c959f;stroke-dasharray:2 5;fill:none}
.ontime{fill:#0969da}.late{fill:none;stroke:#9a6700;stroke-width:2.5}.lost{fill:none;stroke:#cf222e;stroke-width:2.5}
.other{fill:#8250df}
.mark{fill:none;stroke:#1a7f37;stroke-width:2.5}.bare{fill:none;stroke:#cf222e;stroke-width:2;stroke-dasharray:7 4}
.fire{fill:#1a7f37}.span{fill:#8c959f;fill-opacity:.16}
.halo{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small{fill:#9198a1}.card{fill:#0d1117}.band{fill:#161b22}.grid{stroke:#30363d}.now{stroke:#6e7681}
.ontime{fill:#58a6ff}.late{stroke:#d29922}.lost{stroke:#ff7b72}.other{fill:#bc8cff}.mark{stroke:#3fb950}.bare{stroke:#ff7b72}.fire{fill:#3fb950}
.span{fill:#8c959f;fill-opacity:.22}.halo{stroke:#0d1117}}
</style>`

func (p *Picture) x(at float64) float64 {
	return left + at*float64(width-left-right)/float64(p.Seconds)
}

func (p *Picture) y(second float64) float64 {
	return height - bottom - (second-float64(p.Low))*float64(height-top-bottom)/float64(p.High-p.Low)
}

// SVG draws the picture.
func (p *Picture) SVG() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="t d">`, width, height)
	add(`<title id="t">%s</title><desc id="d">%s</desc>`, html.EscapeString(p.Title), html.EscapeString(p.Alt))
	add("%s", style)
	add(`<rect class="card" width="%d" height="%d" rx="8"/>`, width, height)
	add(`<text class="title" x="%d" y="28">%s</text>`, left, html.EscapeString(p.Title))
	p.axes(add)
	for _, s := range p.Spans {
		add(`<rect class="span" x="%.1f" y="%d" width="%.1f" height="%d"/>`, p.x(float64(s.From)), top, p.x(float64(s.To))-p.x(float64(s.From)), height-top-bottom)
		add(`<text class="small halo" x="%.1f" y="%d" text-anchor="middle">%s</text>`, (p.x(float64(s.From))+p.x(float64(s.To)))/2, height-bottom-8, html.EscapeString(s.Text))
	}
	for _, l := range p.Lines {
		p.line(add, l)
	}
	for _, d := range p.Dots {
		p.shape(add, d.Class, p.x(float64(d.At)), p.y(float64(d.Second)))
	}
	for _, f := range p.Fires {
		x, y := p.x(float64(f.At)), p.y(float64(f.End))
		add(`<path class="fire" d="M%.1f %.1fl7 7l-7 7l-7 -7z"/>`, x, y-7)
		add(`<text class="halo" x="%.1f" y="%.1f">%s</text>`, x+11, y+13, html.EscapeString(f.Text))
	}
	p.legend(add)
	add(`</svg>`)
	return b.String()
}

func (p *Picture) axes(add func(string, ...any)) {
	x0, x1 := p.x(0), p.x(float64(p.Seconds))
	for s := p.Low; s < p.High; s += p.Window {
		if (s/p.Window)%2 == 0 {
			hi := min(s+p.Window, p.High)
			add(`<rect class="band" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, x0, p.y(float64(hi)), x1-x0, p.y(float64(s))-p.y(float64(hi)))
		}
	}
	for s := p.Low; s <= p.High; s += p.Window {
		add(`<path class="grid" d="M%.1f %.1fH%.1f"/>`, x0, p.y(float64(s)), x1)
		add(`<text class="small" x="%.1f" y="%.1f" text-anchor="end">%d s</text>`, x0-8, p.y(float64(s))+4, s)
	}
	for s := 0; s <= p.Seconds; s += 10 {
		add(`<path class="grid" d="M%.1f %dv5"/>`, p.x(float64(s)), height-bottom)
		add(`<text class="small" x="%.1f" y="%d" text-anchor="middle">%d s</text>`, p.x(float64(s)), height-bottom+19, s)
	}
	from, to := max(p.Low, 0), min(p.High, p.Seconds)
	add(`<path class="now" d="M%.1f %.1fL%.1f %.1f"/>`, p.x(float64(from)), p.y(float64(from)), p.x(float64(to)), p.y(float64(to)))
	add(`<text class="small" x="%.1f" y="%d" text-anchor="end">processing time: when it happens</text>`, x1, height-8)
	add(`<text class="small" x="18" y="%d" text-anchor="end" transform="rotate(-90 18 %d)">event time: when it was measured</text>`, top, top)
}

func (p *Picture) line(add func(string, ...any), l Line) {
	if len(l.Points) == 0 {
		return
	}
	var d strings.Builder
	clip := func(second float64) float64 { return min(max(second, float64(p.Low)), float64(p.High)) }
	fmt.Fprintf(&d, "M%.1f %.1f", p.x(l.Points[0].At), p.y(clip(l.Points[0].Second)))
	for _, q := range l.Points[1:] {
		fmt.Fprintf(&d, "H%.1fV%.1f", p.x(q.At), p.y(clip(q.Second)))
	}
	fmt.Fprintf(&d, "H%.1f", p.x(float64(p.Seconds)))
	add(`<path class="%s" d="%s"/>`, l.Class, d.String())
}

func (p *Picture) shape(add func(string, ...any), class string, x, y float64) {
	switch class {
	case "late":
		add(`<path class="late" d="M%.1f %.1fl6 10h-12z"/>`, x, y-6)
	case "lost":
		add(`<path class="lost" d="M%.1f %.1fl10 10m0 -10l-10 10"/>`, x-5, y-5)
	case "other":
		add(`<rect class="other" x="%.1f" y="%.1f" width="9" height="9"/>`, x-4.5, y-4.5)
	default:
		add(`<circle class="%s" cx="%.1f" cy="%.1f" r="4.5"/>`, class, x, y)
	}
}

func (p *Picture) legend(add func(string, ...any)) {
	x, y := float64(left)+6, 54.0
	for _, e := range p.Legend {
		w := 38 + 7.1*float64(len(e.Text))
		if x+w > width-10 {
			x, y = float64(left)+6, y+20
		}
		switch e.Class {
		case "mark", "bare", "now":
			add(`<path class="%s" d="M%.1f %.1fh18"/>`, e.Class, x-6, y-4)
		case "fire":
			add(`<path class="fire" d="M%.1f %.1fl6 6l-6 6l-6 -6z"/>`, x+3, y-10)
		default:
			p.shape(add, e.Class, x+3, y-4)
		}
		add(`<text x="%.1f" y="%.1f">%s</text>`, x+17, y, html.EscapeString(e.Text))
		x += w
	}
}

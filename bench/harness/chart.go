package harness

import (
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// series is a value for each of some names.
type series struct {
	name string
	at   map[string]float64
}

// colours tell series apart, for people who do not see red and green differ, too.
func colours() []color.RGBA {
	return []color.RGBA{
		{0x33, 0x33, 0x33, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x8c, 0x6d, 0x31, 0xff},
	}
}

// bars draws a bar per name; drawn is false where there is none.
func bars(file, title, unit string, names []string, s series) (drawn bool, err error) {
	if len(names) == 0 {
		return false, nil
	}
	down := slices.Clone(names)
	slices.Reverse(down) // the first on top
	var vs plotter.Values
	for _, n := range down {
		vs = append(vs, s.at[n])
	}
	p := blank(title, unit, down)
	b, err := plotter.NewBarChart(vs, vg.Points(12))
	if err != nil {
		return false, err
	}
	b.Horizontal, b.Color = true, colours()[1]
	b.LineStyle.Width = 0
	p.Add(b)
	p.X.Min, p.X.Max = 0, slices.Max(vs)*1.08
	return true, save(p, file, len(names), nil)
}

// dots draws a row per name with a dot per series, on a logarithmic scale.
func dots(file, title, unit string, names []string, all []series) (drawn bool, err error) {
	down := slices.Clone(names)
	slices.Reverse(down)
	low, high := math.Inf(1), 0.0
	legend := plot.NewLegend()
	legend.Top, legend.Left, legend.Padding = true, true, vg.Points(3)
	legend.TextStyle.Font.Variant = sans
	p := blank(title, unit+", logarithmic", down)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xdd}, color.Gray{0xee}
	p.Add(grid)
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.CrossGlyph{}} // seven, so that each series differs in shape or colour
	for i, s := range all {
		var xys plotter.XYs
		for row, n := range down {
			if v := s.at[n]; v > 0 {
				xys = append(xys, plotter.XY{X: v, Y: float64(row)})
				low, high = min(low, v), max(high, v)
			}
		}
		if len(xys) == 0 {
			continue
		}
		sc, err := plotter.NewScatter(xys)
		if err != nil {
			return false, err
		}
		c := colours()
		sc.GlyphStyle = draw.GlyphStyle{Color: c[i%len(c)], Radius: vg.Points(3.5), Shape: shapes[i%len(shapes)]}
		p.Add(sc)
		legend.Add(s.name, sc)
	}
	if high == 0 {
		return false, nil
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	p.X.Min, p.X.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high*1.01)))
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	return true, save(p, file, max(len(names), len(all)), &legend)
}

// decades are ticks at 1, 10, 100, with small ones at 2 and 5 between.
func decades(low, high float64) (ts []plot.Tick) {
	for d := math.Pow(10, math.Floor(math.Log10(low)+1e-9)); d <= high*1.001; d *= 10 {
		ts = append(ts, plot.Tick{Value: d, Label: strconv.FormatFloat(d, 'f', -1, 64)})
		for _, f := range []float64{2, 5} {
			if d*f <= high {
				ts = append(ts, plot.Tick{Value: d * f})
			}
		}
	}
	return ts
}

const sans = "Sans"

func blank(title, unit string, down []string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text, p.X.Label.Text = title, unit
	p.Title.Padding = vg.Points(6)
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font} {
		f.Variant = sans
	}
	// Room is reckoned by one font, and a browser may show another, wider by up to a fifth: spaces that do not break keep names out of the bars.
	labels := make([]string, len(down))
	for i, n := range down {
		labels[i] = n + strings.Repeat("\u00a0", 1+utf8.RuneCountInString(n)/3)
	}
	p.NominalY(labels...)
	p.Y.Padding, p.X.Padding = vg.Points(6), vg.Points(6)
	return p
}

// save writes the plot as SVG and PNG, with room for its rows and, beside it, its legend.
func save(p *plot.Plot, file string, rows int, legend *plot.Legend) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	const width, beside = 22 * vg.Centimeter, 6 * vg.Centimeter
	height := vg.Length(rows)*vg.Points(20) + vg.Points(80)
	for _, format := range []string{"svg", "png"} {
		c, err := draw.NewFormattedCanvas(width, height, format)
		if err != nil {
			return err
		}
		all := draw.New(c)
		part := draw.Crop(all, vg.Points(8), -vg.Points(8), vg.Points(2), -vg.Points(2))
		if legend != nil {
			part = draw.Crop(part, 0, -beside, 0, 0)
		}
		all.SetColor(color.White)
		all.Fill(all.Path())
		p.Draw(part)
		if legend != nil {
			legend.Draw(draw.Crop(all, width-beside+vg.Points(12), -vg.Points(6), 0, -vg.Points(30)))
		}
		if err := store(c, file+"."+format); err != nil {
			return err
		}
	}
	return nil
}

func store(c io.WriterTo, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	_, err = c.WriteTo(f)
	return err
}

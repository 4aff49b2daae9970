package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	plainColor  = color.NRGBA{R: 0xc4, G: 0x4e, B: 0x1c, A: 0xff}
	oursColor   = color.NRGBA{R: 0x12, G: 0x5c, B: 0xa8, A: 0xff}
	outageColor = color.NRGBA{R: 0x80, G: 0x80, B: 0x80, A: 0x38}
	gridColor   = color.NRGBA{R: 0x80, G: 0x80, B: 0x80, A: 0x40}
)

// drawOutage writes an SVG of the calls per second that reached the API.
func drawOutage(w io.Writer, s scenario, plain, ours result) error {
	p := plot.New()
	p.BackgroundColor = color.White // also where a page is dark
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	p.Title.Text = fmt.Sprintf("Calls that reach the API: %d messages a second, down for %v minutes", s.rate, s.down.Minutes())
	p.Title.TextStyle.Font = font.From(sans, 15)
	p.Title.Padding = 10
	p.X.Label.Text = "minutes"
	p.Y.Label.Text = "calls a second"
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = font.From(sans, 13)
		axis.Tick.Label.Font = font.From(sans, 12)
	}
	minutes := float64(len(plain.perSecond)) / 60
	var ticks plot.ConstantTicks
	for minute := 0; float64(minute) <= minutes; minute++ {
		ticks = append(ticks, plot.Tick{Value: float64(minute), Label: fmt.Sprint(minute)})
	}
	p.X.Tick.Marker = ticks
	p.X.Min, p.X.Max = 0, minutes
	p.Y.Min = 0

	top := 0.0
	for _, r := range []result{plain, ours} {
		for _, calls := range r.perSecond {
			top = max(top, 1.15*float64(calls))
		}
	}
	p.Y.Max = top

	from, until := warmUp.Minutes(), (warmUp + s.down).Minutes()
	outage, err := plotter.NewPolygon(plotter.XYs{{X: from}, {X: from, Y: top}, {X: until, Y: top}, {X: until}})
	if err != nil {
		return err
	}
	outage.Color, outage.LineStyle.Width = outageColor, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Transparent, gridColor
	p.Add(outage, grid)

	// What a line is stands beside it, to its right, where a font that is wider
	// than ours does no harm.
	write := func(what string, x, y float64, align text.XAlignment, color color.Color) error {
		label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{what}})
		if err != nil {
			return err
		}
		style := &label.TextStyle[0]
		style.Font, style.XAlign, style.Color = font.From(sans, 12), align, color
		p.Add(label)
		return nil
	}
	for _, line := range []struct {
		name   string
		result result
		color  color.Color
		x, y   float64 // of its name
	}{
		{"plain backoff", plain, plainColor, until + 0.15, 0.85 * top},
		{"graphretry", ours, oursColor, until + 0.9, 0.39 * top},
	} {
		points := make(plotter.XYs, len(line.result.perSecond))
		for second, calls := range line.result.perSecond {
			points[second] = plotter.XY{X: (time.Duration(second) * time.Second).Minutes(), Y: float64(calls)}
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		drawn.StepStyle = plotter.PostStep
		drawn.LineStyle = draw.LineStyle{Color: line.color, Width: vg.Points(1.6)}
		p.Add(drawn)
		name := fmt.Sprintf("%s: %s calls while down", line.name, count(float64(line.result.whileDown)))
		if err := write(name, line.x, line.y, text.XLeft, line.color); err != nil {
			return err
		}
	}
	if err := write("the API is down", (from+until)/2, 0.94*top, text.XCenter, color.Black); err != nil {
		return err
	}

	canvas := vgsvg.New(9*vg.Inch, 4.2*vg.Inch)
	p.Draw(draw.Crop(draw.New(canvas), 8, -16, 8, -8))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Few have the font that it was laid out with.
	const family = "font-family:Liberation Sans"
	_, err = w.Write(bytes.ReplaceAll(svg.Bytes(), []byte(family), []byte(family+",Arial,Helvetica,sans-serif")))
	return err
}

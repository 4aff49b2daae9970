package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"slices"
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
	peerColor   = color.NRGBA{R: 0x6b, G: 0x6b, B: 0x6b, A: 0xff}
	oursColor   = color.NRGBA{R: 0x12, G: 0x5c, B: 0xa8, A: 0xff}
	outageColor = color.NRGBA{R: 0x80, G: 0x80, B: 0x80, A: 0x38}
	gridColor   = color.NRGBA{R: 0x80, G: 0x80, B: 0x80, A: 0x40}
)

// picture draws the figures of each second of a scenario as lines.
type picture struct {
	title, unit string
	minutes     float64
	top         float64 // of the scale; 0: a little above the lines
	lines       []line
	from, until time.Duration // what is shaded ...
	trouble     string        // ... and its name
}

// line is a line of a picture.
type line struct {
	name      string
	perSecond []int
	smooth    int // over so many seconds
	color     color.Color
	x, y      float64 // of its name: in minutes, and as a part of the scale
}

// outagePicture shows the calls a second that reached the API.
func outagePicture(s scenario, plain, ours result) picture {
	until := (warmUp + s.down).Minutes()
	name := func(who string, r result) string {
		return fmt.Sprintf("%s: %s calls while down", who, count(float64(r.whileDown)))
	}
	return picture{
		title:   fmt.Sprintf("Calls that reach the API: %d messages a second, down for %v minutes", s.rate, s.down.Minutes()),
		unit:    "calls a second",
		minutes: float64(len(plain.perSecond)) / 60,
		lines: []line{
			{name("plain backoff", plain), plain.perSecond, 1, plainColor, until + 0.15, 0.85},
			{name("graphretry", ours), ours.perSecond, 1, oursColor, until + 0.9, 0.39},
		},
		from: warmUp, until: warmUp + s.down, trouble: "the API is down",
	}
}

// overloadPicture shows the messages a second that the API accepted.
func overloadPicture(s scenario, plain, breaker, ours result) picture {
	until := (warmUp + s.down).Minutes()
	name := func(who string, r result) string {
		return fmt.Sprintf("%s: %s lost of %s", who, count(float64(r.lost())), count(float64(r.messages)))
	}
	return picture{
		title:   fmt.Sprintf("Messages served: down for a minute, then %d a second at most", s.capacity),
		unit:    "served a second",
		minutes: s.send.Minutes(),
		top:     1.4 * float64(s.capacity),
		lines: []line{
			{name("plain backoff", plain), plain.served, 10, plainColor, until + 3.2, 0.22},
			{name("failsafe-go with breaker", breaker), breaker.served, 10, peerColor, until + 3.2, 0.34},
			{name("graphretry", ours), ours.served, 10, oursColor, until + 3.2, 0.83},
		},
		from: warmUp, until: warmUp + s.down, trouble: "down",
	}
}

// draw writes the picture as SVG.
func (pic picture) draw(w io.Writer) error {
	p := plot.New()
	p.BackgroundColor = color.White // also where a page is dark
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	p.Title.Text = pic.title
	p.Title.TextStyle.Font = font.From(sans, 15)
	p.Title.Padding = 10
	p.X.Label.Text = "minutes"
	p.Y.Label.Text = pic.unit
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = font.From(sans, 13)
		axis.Tick.Label.Font = font.From(sans, 12)
	}
	var ticks plot.ConstantTicks
	for minute := 0; float64(minute) <= pic.minutes; minute++ {
		ticks = append(ticks, plot.Tick{Value: float64(minute), Label: fmt.Sprint(minute)})
	}
	p.X.Tick.Marker = ticks
	p.X.Min, p.X.Max = 0, pic.minutes
	p.Y.Min = 0

	top := pic.top
	if top == 0 {
		for _, line := range pic.lines {
			top = max(top, 1.15*float64(slices.Max(line.perSecond)))
		}
	}
	p.Y.Max = top

	from, until := pic.from.Minutes(), pic.until.Minutes()
	outage, err := plotter.NewPolygon(plotter.XYs{{X: from}, {X: from, Y: top}, {X: until, Y: top}, {X: until}})
	if err != nil {
		return err
	}
	outage.Color, outage.LineStyle.Width = outageColor, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Transparent, gridColor
	p.Add(outage, grid)

	// The name of a line is to its right, where there is room for a wider font.
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
	for _, line := range pic.lines {
		drawn, err := plotter.NewLine(line.points(pic.minutes))
		if err != nil {
			return err
		}
		drawn.StepStyle = plotter.PostStep
		drawn.LineStyle = draw.LineStyle{Color: line.color, Width: vg.Points(1.6)}
		p.Add(drawn)
		if err := write(line.name, line.x, line.y*top, text.XLeft, line.color); err != nil {
			return err
		}
	}
	if err := write(pic.trouble, (from+until)/2, 0.94*top, text.XCenter, color.Black); err != nil {
		return err
	}

	canvas := vgsvg.New(9*vg.Inch, 4.2*vg.Inch)
	p.Draw(draw.Crop(draw.New(canvas), 8, -16, 8, -8))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Few readers have the font that it was laid out with.
	const family = "font-family:Liberation Sans"
	_, err = w.Write(bytes.ReplaceAll(svg.Bytes(), []byte(family), []byte(family+",Arial,Helvetica,sans-serif")))
	return err
}

// points returns the points of the line up to a minute.
func (l line) points(minutes float64) (points plotter.XYs) {
	for second := 0; second < len(l.perSecond) && float64(second) <= 60*minutes; second += l.smooth {
		of := l.perSecond[second:min(second+l.smooth, len(l.perSecond))]
		points = append(points, plotter.XY{X: (time.Duration(second) * time.Second).Minutes(), Y: float64(sum(of)) / float64(len(of))})
	}
	return points
}

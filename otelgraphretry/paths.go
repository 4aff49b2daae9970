package otelgraphretry

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/graphretry/graphretry"
)

const (
	scopeKey = attribute.Key("graphretry.scope")
	pathKey  = attribute.Key("graphretry.outage.path")
)

// The scopes of an outage.
var (
	hostScope = metric.WithAttributes(scopeKey.String("host"))
	pathScope = pathName("").option()
)

// paths bounds how many paths have a name of their own.
type paths struct {
	limit int // 0: no path has
	mu    sync.Mutex
	known map[string]bool
}

// pathName is a path as the metrics name it, "" where they name none.
type pathName string

// of returns the name of a path.
func (p *paths) of(path string) pathName {
	if p.limit == 0 {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known[path] {
		if len(p.known) >= p.limit {
			return pathName(semconv.ErrorTypeOther.Value.AsString())
		}
		if p.known == nil {
			p.known = make(map[string]bool)
		}
		p.known[path] = true
	}
	return pathName(path)
}

// scopeOf is the scope of an outage of a path, or of the host if that is "".
func (p *paths) scopeOf(path string) metric.MeasurementOption {
	if path == "" {
		return hostScope
	}
	return p.of(path).option()
}

// name is the attribute of the path alone.
func (n pathName) name() metric.MeasurementOption {
	if n == "" {
		return metric.WithAttributes()
	}
	return metric.WithAttributes(pathKey.String(string(n)))
}

// option is the scope of a path with its name.
func (n pathName) option() metric.MeasurementOption {
	if n == "" {
		return metric.WithAttributes(scopeKey.String("path"))
	}
	return metric.WithAttributes(scopeKey.String("path"), pathKey.String(string(n)))
}

// pathState is one series of graphretry.path.state.
type pathState struct {
	scope pathName
	state graphretry.HostState
}

// sums are how many calls wait for the paths that are not up, and how many paths are in
// each state, with those that have no name of their own added up.
func (p *paths) sums(statuses []graphretry.PathStatus) (waiting map[pathName]int64, states map[pathState]int64) {
	waiting = map[pathName]int64{"": 0}
	states = map[pathState]int64{{state: graphretry.HostDown}: 0, {state: graphretry.HostRecovering}: 0}
	for _, path := range statuses {
		name := p.of(path.Path)
		waiting[name] += int64(path.Waiting)
		states[pathState{name, path.State}]++
	}
	return waiting, states
}

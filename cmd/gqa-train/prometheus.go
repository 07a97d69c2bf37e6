package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"

	"gqa/internal/cli"
	"gqa/train"
)

// addPrometheus defines the flag for an endpoint with a run's figures.
func addPrometheus(fl *pflag.FlagSet, address *string) {
	fl.StringVar(address, "prometheus", "", "serve the run's figures for Prometheus at http://`ADDRESS`/metrics: a port, or a loopback address with one")
}

// loopback returns an address to listen on, of this machine alone, given as PORT or HOST:PORT.
func loopback(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = "", address
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", cli.Usagef("--prometheus is %q, want a port, such as 9464, or a loopback address with one", cli.Shorten(address))
	}
	switch ip := net.ParseIP(host); {
	case host == "" || host == "localhost":
		host = "127.0.0.1"
	case ip == nil || !ip.IsLoopback():
		return "", cli.Usagef("--prometheus is %q: want a loopback address, such as 127.0.0.1:%s, as anyone who can reach it can read it", cli.Shorten(address), port)
	}
	return net.JoinHostPort(host, port), nil
}

// endpoint serves the figures of a run.
type endpoint struct {
	server  *http.Server
	address string

	step, steps, tokens, loss, gradNorm, rate, speed, valid, skipped prometheus.Gauge
	tasks                                                            *prometheus.GaugeVec
}

// openEndpoint begins to serve at an address; nil if that is empty.
func openEndpoint(address string) (*endpoint, error) {
	if address == "" {
		return nil, nil
	}
	address, err := loopback(address)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--prometheus: %w; choose another port, or 0 for any that is free", err)
	}
	registry := prometheus.NewRegistry()
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gqa_train", Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	e := &endpoint{
		address: listener.Addr().String(),
		step:    gauge("step", "Steps made so far."), steps: gauge("steps", "Steps of the run."), tokens: gauge("tokens", "Tokens read so far."),
		loss: gauge("loss", "Loss of the last step in nats per token."), gradNorm: gauge("grad_norm", "Norm of its gradient before clipping."),
		rate: gauge("learning_rate", "Its learning rate."), speed: gauge("tokens_per_second", "Its speed."),
		valid: gauge("valid_loss", "Last validation loss in nats per token."), skipped: gauge("skipped_steps", "Steps of this process that were skipped."),
		tasks: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gqa_train", Name: "task", Help: "Last figures of the validation tasks."}, []string{"figure"}),
	}
	registry.MustRegister(e.tasks)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { // ends with Close
		if err := e.server.Serve(listener); err != http.ErrServerClosed {
			slog.Warn(fmt.Sprintf("the endpoint for Prometheus ended: %v", err))
		}
	}()
	slog.Info("serving figures for Prometheus", "url", "http://"+e.address+"/metrics")
	return e, nil
}

// observe shows the figures of a step.
func (e *endpoint) observe(p train.Progress) {
	if e == nil {
		return
	}
	e.step.Set(float64(p.Step))
	e.steps.Set(float64(p.Steps))
	e.tokens.Set(float64(p.Tokens))
	e.speed.Set(p.TokensPerS)
	e.rate.Set(p.LR)
	if p.Skipped != "" {
		e.skipped.Inc()
	} else {
		e.loss.Set(float64(p.Loss))
		e.gradNorm.Set(float64(p.GradNorm))
	}
	if p.ValidLoss != nil {
		e.valid.Set(*p.ValidLoss)
	}
	for name, value := range p.Metrics.Tasks {
		e.tasks.WithLabelValues(strings.ToValidUTF8(name, "?")).Set(float64(value))
	}
}

// Close ends the endpoint.
func (e *endpoint) Close() error {
	if e == nil {
		return nil
	}
	return e.server.Close()
}

package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"gqa/train"
)

func TestLoopback(t *testing.T) {
	for address, want := range map[string]string{
		"9464": "127.0.0.1:9464", "0": "127.0.0.1:0", ":80": "127.0.0.1:80", "localhost:1": "127.0.0.1:1", "127.0.0.2:5": "127.0.0.2:5", "[::1]:7": "[::1]:7",
		"0.0.0.0:9464": "", "10.0.0.1:9464": "", "example.com:1": "", "x": "", "70000": "", "-1": "", "[::]:1": "",
	} {
		if got, err := loopback(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	e, err := openEndpoint("0")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	valid := 1.5
	e.observe(train.Progress{Steps: 9, Metrics: train.Metrics{
		Step: 3, Tokens: 48, Loss: 2.25, ValidLoss: &valid, Tasks: map[string]train.Figure{"x_acc": 0.5},
	}})
	e.observe(train.Progress{Steps: 9, Metrics: train.Metrics{Step: 4, Tokens: 64, Skipped: "the loss is NaN"}})
	resp, err := http.Get("http://" + e.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"gqa_train_step 4\n", "gqa_train_steps 9\n", "gqa_train_tokens 64\n", "gqa_train_loss 2.25\n", "gqa_train_valid_loss 1.5\n",
		"gqa_train_skipped_steps 1\n", `gqa_train_task{figure="x_acc"} 0.5`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if _, err := openEndpoint(strings.TrimPrefix(e.address, "127.0.0.1:")); err == nil {
		t.Error("a port is used twice")
	}
}

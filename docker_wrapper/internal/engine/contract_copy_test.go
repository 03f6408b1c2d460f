//go:build integration

package engine_test

var copyRows = []contractRow{}

//go:build !linux

// Package fakebus is for Linux.
package fakebus

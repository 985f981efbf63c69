//go:build !linux

// Command testbox runs inside Linux containers only.
package main

func main() { panic("testbox runs on Linux") }

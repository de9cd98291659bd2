\echo Use "CREATE EXTENSION eram" to load this file. \quit

// An example; scripts/restore gives the values by itself.
using 'restore.bicep'

param sourceServerId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/production/providers/Microsoft.DBforPostgreSQL/flexibleServers/shop'
param baseServerName = 'shop-dc-base'
param headServerName = 'shop-dc-head'
param baseTime = '2026-01-31T09:30:00Z'
param headTime = '2026-01-31T14:05:00Z'
param operatorAddress = '203.0.113.7'

// The function app on Flex Consumption, with the custom runtime. It has one identity and no key.

import { tagsType } from '../types.bicep'

param name string
param location string
param tags tagsType
param identityId string
param identityClientId string
param storageName string
param deploymentContainerUrl string
param queueServiceUri string
param vaultUri string
param applicationInsightsConnectionString string
param workspaceId string
@description('Empty: no integration with a virtual network.')
param appSubnetId string
param baseServerName string
param headServerName string
param databaseName string
param administratorLogin string
param fdwSslMode string
param maximumInstanceCount int
param instanceMemoryMB int

var postgresSuffix = 'postgres.database.azure.com'

var platformSettings = {
  AzureWebJobsStorage__accountName: storageName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  DELTACOMPARE_QUEUES__queueServiceUri: queueServiceUri
  DELTACOMPARE_QUEUES__credential: 'managedidentity'
  DELTACOMPARE_QUEUES__clientId: identityClientId
}

var identitySettings = {
  DELTACOMPARE_VAULT: vaultUri
  DELTACOMPARE_IDENTITY: 'managed'
  DELTACOMPARE_IDENTITY_CLIENT_ID: identityClientId
}

// prepare.bicep writes the two secrets.
var serverSettings = empty(baseServerName) || empty(headServerName) || empty(databaseName) || empty(administratorLogin) ? {} : {
  DELTACOMPARE_BASE: 'postgres://${administratorLogin}@${baseServerName}.${postgresSuffix}:5432/${databaseName}?sslmode=verify-full'
  DELTACOMPARE_BASE_SECRET: '${baseServerName}-password'
  DELTACOMPARE_HEAD: 'postgres://${administratorLogin}@${headServerName}.${postgresSuffix}:5432/${databaseName}?sslmode=verify-full'
  DELTACOMPARE_HEAD_SECRET: '${headServerName}-password'
  DELTACOMPARE_FDW: 'sslmode=${fdwSslMode}'
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: '${name}-plan'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(appSubnetId) ? null : appSubnetId
    // Flex Consumption refuses (51021) what means nothing there, ftpsState among it; check.py has the list.
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
    }
    functionAppConfig: {
      runtime: { name: 'custom', version: '1.0' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: instanceMemoryMB
      }
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: union(platformSettings, identitySettings, serverSettings)
  }

  // One after the other: a site refuses a second change while it makes the first.
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
    dependsOn: [settings]
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
    dependsOn: [ftp]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'functions'
  scope: app
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'FunctionAppLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
